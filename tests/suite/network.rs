//! Addresses of labs.

use std::net::TcpListener;

use rollproof::lab::network;

#[test]
fn a_taken_port_is_one_error_that_says_how_to_find_who_has_it() {
    // An address that is nobody's, and a port that no client is given.
    network::expect_free(([127, 88, 0, 1], 16442).into()).unwrap();
    for listen in ["127.88.0.1:0", "0.0.0.0:0"] {
        let taken = TcpListener::bind(listen).unwrap();
        let port = taken.local_addr().unwrap().port();
        let address = ([127, 88, 0, 1], port).into();
        let error = format!("{:#}", network::expect_free(address).unwrap_err());
        let expected = format!(
            "cannot listen on 127.88.0.1:{port}; `ss -ltnp 'sport = :{port}'` shows who does, perhaps on all addresses: \
             Address already in use (os error 98)"
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn no_address_of_a_lab_is_another_labs_or_can_be_a_clients() {
    let all = |lab| {
        let servers = (0..9).map(move |index| network::apiserver(lab, index));
        servers.chain([network::balancer(lab), network::etcd_client(lab), network::etcd_peer(lab)])
    };
    let mut addresses: Vec<_> = (1..=250).flat_map(all).collect();
    let count = addresses.len();
    assert!(
        addresses.iter().all(|address| address.ip().is_loopback() && address.port() < 32768),
        "the ephemeral range"
    );
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), count);
}
