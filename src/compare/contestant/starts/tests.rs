use super::*;

#[test]
fn the_hosts_reason_to_refuse_an_app_is_found_in_its_log() {
    let log = ["WARN something", "ERROR not deployed: it has no exports app=hello"].map(str::to_owned);
    assert_eq!(refusal(&log).as_deref(), Some("it has no exports"));
    assert_eq!(refusal(&log[..1]), None);
}
