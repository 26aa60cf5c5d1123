//! `hostler compare` as its users run it: what it asks, of whom, and what it writes.

use serde_json::Value;

use crate::program::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_requests_at_a_rate_are_compared_with_another_server_and_written_as_page_and_lines() {
    let place = Place::new();
    place.app("shop", "hello");
    place.write(
        "requests.toml",
        "[[request]]\n[[request]]\npath = \"/?n=2\"\nheaders = { accept = \"text/plain\" }\n",
    );
    let elsewhere = place.serve(&[], &[]).await;
    let other = format!("other=http://{}/shop", elsewhere.address());
    let args = ["compare", "shop", "--modes", "pooled,resident", "--connections", "2", "--duration", "2s"];
    let more = ["--rate", "50%", "--requests", "requests.toml", "--against", &other, "--json"];
    let files = ["--html", "page.html", "--csv", "figures.csv"];
    let run = place.run(&[&args[..], &more, &files].concat(), &[]).await.ended_with(0);

    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let servers = report["servers"].as_array().expect("servers");
    let names = servers.iter().map(|server| server["name"].as_str().expect("a name")).collect::<Vec<_>>();
    assert_eq!(names, ["native", "pooled", "other"]);
    for server in servers {
        assert!(server["counts"]["right"].as_u64() > Some(0), "{server}");
        assert_eq!(server["counts"]["wrong"], 0, "{server}");
        let at = &server["at_rate"];
        assert!(at["counts"]["right"].as_u64() > Some(0), "{server}");
        let half = server["requests_per_second"]["median"].as_f64().expect("a rate") / 2.0;
        let asked = at["asked_per_second"].as_f64().expect("a rate");
        assert!((asked / half - 1.0).abs() < 1e-6, "half of the capacity is asked: {server}");
    }
    assert_eq!(report["app"]["requests"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["app"]["requests"][1]["request"], "GET /shop?n=2");
    assert!(servers[1]["own"]["requests"].as_u64() > Some(0), "the host tells of itself: {}", servers[1]);
    assert!(servers[1]["memory"]["pss"].as_u64() > Some(0));
    assert_eq!((&servers[2]["memory"], &servers[2]["own"]), (&Value::Null, &Value::Null));
    assert_eq!(servers[2]["cpu_us_per_request"], Value::Null);
    assert_eq!(report["skipped"][0]["mode"], "resident");
    assert_eq!(report["advice"]["mode"], "pooled");

    let page = std::fs::read_to_string(place.at("page.html")).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for part in [">other</th>", "GET /shop?n=2", "At 50 % of each server", "resident not measured"] {
        assert!(page.contains(part), "{part}");
    }
    let lines = std::fs::read_to_string(place.at("figures.csv")).expect("lines");
    let of = lines.lines().map(|line| line.split(',').take(3).collect::<Vec<_>>().join(","));
    let expected = ["app,name,kind", "shop,native,native", "shop,pooled,mode", "shop,other,other"];
    assert_eq!(of.collect::<Vec<_>>(), expected);
    assert_eq!(elsewhere.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_or_written_is_said_before_anything_is_measured() {
    let place = Place::new();
    place.app("shop", "hello");
    place.run(&["compare", "none"], &[]).await.ended_with(1).says("there is no app \"none\"");
    // The folder is that of the configuration, as for all verbs, and a problem of it ends the comparison.
    place.config("[apps]\nfolder = \"elsewhere\"");
    let run = place.run(&["compare", "shop"], &[]).await.ended_with(1);
    run.says("there is no app \"shop\": neither elsewhere/shop.wasm");
    let run = place.run(&["compare", "shop"], &[("HOSTLER_FOLDER", "third")]).await.ended_with(1);
    run.says("neither third/shop.wasm");
    place.config("[apps]\nfoldr = \"elsewhere\"");
    place.run(&["compare", "shop"], &[]).await.ended_with(78).says("did you mean folder?");
    place.config("");
    let run = place.run(&["compare", "shop", "--html", "nowhere/page.html"], &[]).await.ended_with(1);
    run.says("cannot write nowhere/page.html");
    place.write("bad.toml", "[[request]]\npath = \"x\"\n");
    let run = place.run(&["compare", "shop", "--requests", "bad.toml"], &[]).await.ended_with(1);
    run.says("bad.toml: request 1: path: write a path");
    place.run(&["compare", "shop", "--rate", "fast"], &[]).await.ended_with(2).says("50%");
}
