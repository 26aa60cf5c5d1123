use super::*;

fn launch(folder: &Path, script: &str) -> Launch {
    let address_file = folder.join("address");
    Launch {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into(), "sh".into(), address_file.clone().into()],
        address_file,
        cores: None,
        patience: Duration::from_secs(20),
    }
}

/// True once the process is gone, or dead and not yet waited for by its parent.
fn gone(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}

#[tokio::test]
async fn a_server_is_ready_when_it_has_written_its_address_and_ends_when_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"echo 127.0.0.1:4242 > "$1.new"; mv "$1.new" "$1"; exec sleep 1000"#;
    let server = Server::start(&launch(folder.path(), script)).await.unwrap();
    assert_eq!(server.address(), ([127, 0, 0, 1], 4242).into());
    let pid = server.pid().to_string();
    assert!(!gone(&pid));
    drop(server);
    assert!(gone(&pid));
}

#[tokio::test]
async fn a_server_that_ends_too_early_is_named_with_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let error = Server::start(&launch(folder.path(), "echo first >&2; echo no such app >&2; exit 78")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("exit status: 78") && error.ends_with("\n    first\n    no such app"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_gets_ready_is_given_up_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut launch = launch(folder.path(), r#"echo $$ > "$1.pid"; exec sleep 1000"#);
    launch.patience = Duration::from_millis(300);
    let error = Server::start(&launch).await.unwrap_err();
    assert!(matches!(error, ProcessError::NotReady { .. }), "{error}");
    let pid = std::fs::read_to_string(folder.path().join("address.pid")).unwrap();
    assert!(gone(pid.trim()));
}

#[tokio::test]
async fn a_server_is_ended_when_its_start_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("address.pid");
    let launch = launch(folder.path(), r#"echo $$ > "$1.tmp"; mv "$1.tmp" "$1.pid"; exec sleep 1000"#);
    let written = async {
        while !pid_file.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        started = Server::start(&launch) => panic!("{started:?}"),
        () = written => (),
    }
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(gone(pid.trim()));
}

#[tokio::test]
async fn a_server_runs_on_its_cores() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"grep Cpus_allowed_list /proc/self/status | cut -f2 > "$1.cores"
        echo 127.0.0.1:1 > "$1.new"; mv "$1.new" "$1"; exec sleep 1000"#;
    let allowed = Cores::allowed().unwrap().to_string();
    let last = allowed.rsplit([',', '-']).next().unwrap();
    let mut launch = launch(folder.path(), script);
    launch.cores = Some(last.parse().unwrap());
    let _server = Server::start(&launch).await.unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("address.cores")).unwrap().trim(), last);
}

#[test]
fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
    let mut text = (0..100).map(|n| format!("line {n}\n")).collect::<String>();
    text.push_str(&"x".repeat(3_000));
    let mut log = Log::read(Some(io::Cursor::new(text))).unwrap();
    log.finish();
    let lines = log.lines();
    assert_eq!(lines.len(), LOG_LINES);
    assert_eq!(lines[0], "line 62");
    assert_eq!(lines[LOG_LINES - 2].len(), 2_000);
}
