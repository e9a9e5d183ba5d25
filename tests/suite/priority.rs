//! Our own threads come first where that is permitted; what is under test is never below the machine's default.

use std::sync::{Arc, Barrier};
use std::thread;

use rollproof::lab::priority::{RAISED, raise};
use rustix::process::{Pid, getpriority_process, getuid, setpriority_process};

use crate::keeper::stage::{Home, read_pids, sh, soon, until};

fn own() -> i32 {
    getpriority_process(None).unwrap()
}

/// On a runtime and a thread of its own, so that libtest's thread is not raised.
fn apart<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            // A thread has its name, by which it is found, once it has done something.
            let both = Arc::new(Barrier::new(2));
            let met = [both.clone(), both].map(|both| tokio::spawn(async move { both.wait() }));
            futures::future::join_all(met).await;
            work().await
        })
    };
    thread::spawn(run).join().unwrap()
}

#[test]
fn the_probes_threads_are_raised_where_that_is_permitted_and_it_is_no_error_where_not() {
    let (told, own, task, blocking) = apart(async || {
        let told = raise();
        let task = tokio::spawn(async { own() }).await.unwrap();
        let blocking = tokio::task::spawn_blocking(own).await.unwrap();
        (told, own(), task, blocking)
    });
    assert_eq!([own, task, blocking], [told; 3], "what is started later inherits it");
    let refused = setpriority_process(None, own).is_err();
    assert!(told == RAISED || refused || !getuid().is_root(), "root may raise: {told}");
}

#[test]
fn children_of_the_keeper_have_the_machines_default() {
    let nice = apart(async || {
        // As it is in the second scenario of a run.
        raise();
        let home = Home::new();
        let (keeper, claim) = home.lab().await;
        let child = keeper.spawn(sh(&claim, "sleep 600 & echo $! > new; mv new pids; wait")).await.unwrap();
        let pids = claim.folder.join("pids");
        until("its child to be there", || pids.exists()).await;
        let grandchild = read_pids(&pids)[0];
        let nice = [child.pid(), grandchild].map(|pid| getpriority_process(Pid::from_raw(pid)).unwrap());
        soon(keeper.strike(claim.lab)).await.unwrap();
        nice
    });
    // Started under `nice`, the suite itself is below it, and only root can undo that.
    let started_with = getpriority_process(Some(rustix::process::getpid())).unwrap().max(0);
    assert!(nice.iter().all(|nice| *nice == 0 || (*nice == started_with && !getuid().is_root())), "{nice:?}");
}
