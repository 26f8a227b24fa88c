//! The command: what it prints, and how it exits.

use crate::support::ServerProcess;

#[test]
fn the_command_reports_on_a_server_in_words_and_in_json_and_exits_by_what_it_found() {
    let server = ServerProcess::start("");
    let plain = server.run(&["conformance", "--only", "VER,FRAME-2"]);
    assert_eq!(plain.code, Some(0), "{plain:?}");
    assert!(plain.stdout.starts_with("server postrider/") && plain.stdout.contains("0 broken"), "{}", plain.stdout);
    assert!(!plain.stdout.contains('\x1b'), "piped output is plain");

    let json = server.run(&["conformance", "--only", "frame-2", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&report["subject"], &report["kept"], &report["broken"]), (&"server".into(), &1.into(), &0.into()));
    assert_eq!(report["findings"][0]["requirements"][0], "FRAME-2");

    let unknown = server.run(&["conformance", "--only", "SENDING"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("such as SEND-4"), "{unknown:?}");

    // What waits for timeouts of the default configuration is not tried, and says what to do.
    let skipped = server.run(&["conformance", "--only", "CONN-2", "--longest-wait", "1"]);
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    assert!(skipped.stdout.contains("1 not tried") && skipped.stdout.contains("--longest-wait"), "{}", skipped.stdout);
}

#[test]
fn a_server_that_is_not_there_and_a_client_that_does_not_come_have_their_exit_codes() {
    let mut server = ServerProcess::start("");
    server.terminate();
    let gone = server.run(&["conformance"]);
    assert_eq!((gone.code, gone.stderr.lines().count()), (Some(3), 1), "{gone:?}");
    let nobody = server.run(&["conformance", "--client", "--listen", "127.0.0.1:0", "--patience", "0.2", "--json"]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (Some(6), ""), "{nobody:?}");
    assert!(
        nobody.stderr.contains("certificate") && nobody.stderr.contains("no client connected"),
        "{}",
        nobody.stderr
    );
}
