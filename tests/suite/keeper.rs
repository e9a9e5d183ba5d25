//! Nothing outlives a run, whatever ends it. The children here are cheap; that real ones obey is what ci/leftovers shows.
//!
//! Every test has labs of its own below a TMPDIR of its own, so none disturbs a run on the same machine.

pub(crate) mod stage;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use rollproof::lab::keeper::Keeper;
use rollproof::timeline::Moment;
use rstest::rstest;
use rustix::process::Signal;

use stage::*;

#[rstest]
#[case("exit 0", "exit status: 0")]
#[case("exit 3", "exit status: 3")]
#[case("kill -KILL $$", "signal: 9 (SIGKILL)")]
#[tokio::test]
async fn the_end_of_a_child_is_told_with_its_status(#[case] script: &str, #[case] status: &str) {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let before = Moment::now();
    let child = keeper.spawn(sh(&claim, script)).await.unwrap();
    let exit = soon(child.exited()).await.unwrap();
    assert_eq!(exit.status, status);
    assert!(before < exit.at && exit.at < Moment::now());
    assert_eq!(child.exit().unwrap().status, status, "it can be asked again");
    child.signal(Signal::KILL).await.expect("a child that has ended gets no signal, and that is no error");
}

#[tokio::test]
async fn a_program_that_cannot_run_is_one_error_that_names_it() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let text = claim.folder.join("text");
    fs::write(&text, "no program").unwrap();
    for missing in ["no-such-program", "/no/such/program", text.to_str().unwrap()] {
        let error = keeper.spawn(program(&claim, missing, &[])).await.err().unwrap();
        assert_eq!(format!("{error:#}"), format!("there is no program {missing} to run"));
    }

    fs::write(&text, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o700)).unwrap();
    let child = keeper.spawn(program(&claim, text.to_str().unwrap(), &[])).await.unwrap();
    assert_eq!(soon(child.exited()).await.unwrap().status, "exit status: 3");
    let logged = fs::read_to_string(claim.folder.join("log")).unwrap();
    assert!(logged.contains(&format!("cannot execute {}: No such file", text.display())), "{logged}");
}

#[tokio::test]
async fn a_child_can_be_frozen_and_thawed() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let child = keeper.spawn(program(&claim, "sleep", &["600"])).await.unwrap();
    child.signal(Signal::STOP).await.unwrap();
    until("it to stop", || state(child.pid()) == Some('T')).await;
    child.signal_soon(Signal::CONT);
    until("it to go on", || state(child.pid()) == Some('S')).await;
    child.signal(Signal::STOP).await.unwrap();
    keeper.strike(claim.lab).await.expect("a frozen child can be struck");
    assert_eq!(soon(child.exited()).await.unwrap().status, "signal: 9 (SIGKILL)");
}

#[tokio::test]
async fn a_strike_kills_the_group_and_who_has_left_it_and_spares_other_labs() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let family = Family::start(&keeper, &claim).await;
    let other = keeper.claim().await.unwrap();
    let spared = Family::start(&keeper, &other).await;

    keeper.strike(claim.lab).await.unwrap();
    assert_eq!(family.alive(), [0; 0], "right after the strike");
    assert!(!claim.folder.exists());
    assert_eq!(spared.alive().len(), 3);
    keeper.strike(other.lab).await.unwrap();
    assert_eq!(spared.alive(), [0; 0]);
    assert!(home.is_empty(), "the last lab takes the root with it");
    keeper.strike(claim.lab).await.expect("struck twice is no error");
}

#[tokio::test]
async fn the_last_handle_ends_the_keeper_and_all_it_owns() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let family = Family::start(&keeper, &claim).await;
    drop(keeper);
    assert_eq!(family.alive().len(), 3, "the handle on a child is one too");
    home.all_gone_at_once(family.into_pids()).await;
}

/// nginx is like that: it writes its title over its environment.
#[tokio::test]
async fn a_daemon_without_our_mark_is_found_at_the_end_of_the_run() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let child = keeper.spawn(sh(&claim, "env -i setsid sleep 600 & echo $! > new; mv new pids")).await.unwrap();
    soon(child.exited()).await.unwrap();
    let pids = read_pids(&claim.folder.join("pids"));
    keeper.strike(claim.lab).await.unwrap();
    drop((keeper, child));
    home.all_gone_at_once(pids).await;
}

#[test]
fn half_an_order_is_the_end_of_a_killed_client() {
    let home = Home::new();
    let mut keeper = home
        .rollproof(&["keeper"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = keeper.stdin.take().unwrap();
    orders.write_all(b"{\"id\":1,\"command\":\"claim\"}\n{\"id\":2,\"command\":{\"start\":{\"lab\":").unwrap();
    let mut notice = String::new();
    BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut notice).unwrap();
    assert!(notice.contains("claimed"), "{notice}");
    assert!(!home.is_empty());
    drop(orders);
    let ended = keeper.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
    assert!(ended.status.success());
    assert!(home.is_empty());
}

#[test]
fn what_is_no_order_ends_the_keeper_with_an_error_and_everything_struck() {
    let home = Home::new();
    let mut keeper =
        home.rollproof(&["keeper"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    keeper.stdin.take().unwrap().write_all(b"{\"id\":1,\"command\":\"claim\"}\nhello\n").unwrap();
    let ended = keeper.wait_with_output().unwrap();
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(error.starts_with("rollproof: an order that is none: "), "{error}");
    assert_eq!(ended.status.code(), Some(3));
    assert!(home.is_empty());
}

/// Not a claim: a test process, for the next ones to kill. It tells its pids and waits.
#[tokio::test]
#[ignore = "run by when_the_test_process_is_killed_nothing_is_left"]
async fn a_test_process_with_a_lab() {
    let Some(keep) = std::env::var_os("SUITE_KEEP") else { return };
    let keeper = Keeper::get().unwrap();
    let claim = keeper.claim().await.unwrap();
    let family = Family::start(&keeper, &claim).await;
    if keep == "yes" {
        keeper.keep(claim.lab).await.unwrap();
    }
    println!("pids {}", serde_json::to_string(&family.into_pids()).unwrap());
    std::future::pending::<()>().await;
}

#[rstest]
#[case::by_sigkill(Signal::KILL)]
#[case::by_ctrl_c(Signal::INT)]
#[case::by_a_closed_terminal(Signal::HUP)]
#[tokio::test]
async fn when_the_test_process_is_killed_nothing_is_left(#[case] signal: Signal) {
    let home = Home::new();
    let (mut process, pids) = home.test_process("no").await;
    kill(process.id() as i32, signal);
    home.all_gone_at_once(pids).await;
    process.wait().unwrap();
}

#[tokio::test]
async fn when_the_keeper_is_killed_its_children_die_and_clean_finds_the_rest() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let family = Family::start(&keeper, &claim).await;
    kill(parent(family.child.pid()), Signal::KILL);
    let error = soon(family.child.exited()).await.unwrap_err().to_string();
    assert!(error.starts_with("the keeper is gone, and with it every process of the lab"), "{error}");
    for error in [keeper.claim().await.err(), keeper.strike(claim.lab).await.err()] {
        assert!(error.unwrap().to_string().starts_with("the keeper is gone"));
    }
    let direct = family.child.pid();
    until("the child to die with its keeper", || !family.alive().contains(&direct)).await;

    let (code, said) = home.clean(&[]);
    assert!(said.starts_with(&format!("removed {} and ", claim.folder.display())), "{said}");
    assert_eq!((code, family.alive(), home.is_empty()), (0, vec![], true), "{said}");
    assert_eq!(home.clean(&[]), (0, String::new()), "then there is nothing to say");
}

#[tokio::test]
async fn the_next_run_sweeps_what_a_killed_keeper_has_left_and_only_that() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let family = Family::start(&keeper, &claim).await;
    let (living, live_claim) = home.lab().await;
    let live = Family::start(&living, &live_claim).await;
    kill(parent(family.child.pid()), Signal::KILL);
    soon(family.child.exited()).await.unwrap_err();

    let (_next, next_claim) = home.lab().await;
    assert_eq!(family.alive(), [0; 0]);
    assert!(fs::read_dir(&next_claim.folder).unwrap().all(|entry| entry.unwrap().file_name() == "lock"));
    assert_eq!(live.alive().len(), 3, "a live lab is not swept");
    assert!(live_claim.folder.join("pids").exists());
    assert_eq!(home.clean(&[]).0, 0);
    assert_eq!(live.alive().len(), 3, "not by clean either");
}

#[tokio::test]
async fn keepers_side_by_side_get_different_labs_even_in_different_folders() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let keepers = [home.keeper(), home.keeper(), elsewhere.keeper()];
    let claims = futures::future::try_join_all(keepers.iter().flat_map(|keeper| [keeper.claim(), keeper.claim()]));
    let mut labs: Vec<u8> = claims.await.unwrap().into_iter().map(|claim| claim.lab).collect();
    labs.sort_unstable();
    labs.dedup();
    assert_eq!(labs.len(), 6, "{labs:?}: addresses belong to labs, and the machine has them once");
}

#[tokio::test]
async fn a_kept_lab_outlives_its_run_until_it_is_cleaned() {
    let home = Home::new();
    let (process, pids) = home.test_process("yes").await;
    let (code, said) = home.clean(&["--kept"]);
    assert!(code == 0 && said.starts_with("left alone, it is in use: "), "while its run goes on: {said}");

    kill(process.id() as i32, Signal::KILL);
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.stderr, b"", "who reads what the run prints is not kept waiting");
    until("the keeper to say that it is kept", || home.find("kept-by").is_some()).await;
    assert_eq!(alive(&pids).len(), 3);
    assert!(home.clean(&[]).1.starts_with("left alone, it is in use: "));
    assert_eq!(alive(&pids).len(), 3);

    let (code, said) = home.clean(&["--kept"]);
    assert!(code == 0 && said.starts_with("ended the kept lab "), "{said}");
    home.all_gone_at_once(pids).await;
}

#[tokio::test]
async fn a_root_that_others_could_enter_is_refused() {
    let home = Home::new();
    let root = home.root();
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = async || home.keeper().claim().await.err().unwrap().to_string();
    let expected =
        format!("{} is not a private folder of ours (owner, mode 0700); remove it, or set TMPDIR", root.display());
    assert_eq!(refused().await, expected);
    fs::remove_dir(&root).unwrap();
    symlink(home.path(), &root).unwrap();
    assert_eq!(refused().await, expected);
    let gone = home.path().join("gone");
    let error = Keeper::start(&gone).unwrap().claim().await.err().unwrap().to_string();
    assert!(error.starts_with("cannot make the folder ") && error.ends_with("TMPDIR moves it"), "{error}");
}

#[test]
fn a_child_whose_keeper_is_gone_does_not_start() {
    let home = Home::new();
    let ended = home.rollproof(&["keeper-exec", "1", "echo", "started"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), "");
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "rollproof: the keeper is gone already\n");
}
