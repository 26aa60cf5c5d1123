use super::*;
use crate::compare::report::tests::{at_rate, report};

/// The names of the elements that are open at the end, after all that was opened in between was closed in order.
fn unclosed(html: &str) -> Vec<String> {
    let mut open = Vec::new();
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        match tag {
            _ if tag.starts_with('!') || name == "meta" || tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop().as_deref(), Some(name), "</{name}>"),
            _ => open.push(name.to_owned()),
        }
    }
    open
}

#[test]
fn the_page_is_whole_and_needs_nothing_else() {
    let page = page(&report());
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert_eq!(unclosed(&page), Vec::<String>::new());
    for foreign in ["http://", "https://", "<script", "url(", "@import", "src=", "href="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn all_figures_have_words_and_all_cells_headings() {
    let page = page(&report());
    assert_eq!(page.matches("<svg").count(), page.matches("role=\"img\"").count());
    assert_eq!(page.matches("<svg").count(), page.matches("<desc").count());
    let ids = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect::<Vec<_>>();
    let unique = ids.iter().collect::<std::collections::HashSet<_>>();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
    let named = page.split("aria-labelledby=\"").skip(1).filter_map(|rest| rest.split('"').next());
    assert!(named.flat_map(str::split_whitespace).all(|id| ids.contains(&id)));
    for table in page.split("<table>").skip(1).filter_map(|rest| rest.split("</table>").next()) {
        let columns = table.matches("scope=\"col\"").count();
        let rows = table.matches("scope=\"row\"").count();
        assert_eq!(rows, report().servers.len());
        assert_eq!(table.matches("<td").count(), rows * (columns - 1));
        assert_eq!(table.matches("<caption>").count(), 1);
    }
}

#[test]
fn what_the_report_says_stands_in_the_page_as_text() {
    let mut report = report();
    report.app.name = "<b>&".to_owned();
    report.servers[1].name = "\"><script>".to_owned();
    report.notes.push("a < b".to_owned());
    report.conditions.rate = Some("<i>".to_owned());
    report.servers[1].at_rate = Some(at_rate());
    let page = page(&report);
    assert_eq!(unclosed(&page), Vec::<String>::new());
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<i>"));
    assert!(page.contains("a &lt; b") && page.contains("kept not measured: no such thing"));
    assert!(page.contains("At &lt;i&gt;, sent at times"));
}

/// The relative luminance of `#rrggbb`, as WCAG has it.
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
    let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
    0.2126 * linear(part(1)) + 0.7152 * linear(part(3)) + 0.0722 * linear(part(5))
}

#[test]
fn every_colour_of_text_stands_out_from_the_paper_in_light_and_dark() {
    for theme in STYLE.split(":root {").skip(1).take(2) {
        let theme = theme.split('}').next().unwrap();
        let colour = |name: &str| {
            let (_, rest) = theme.split_once(&format!("--{name}: ")).unwrap_or_else(|| panic!("no {name}"));
            luminance(&rest[..7])
        };
        let paper = colour("paper");
        for name in
            ["ink", "soft", "cold", "cached", "replace", "pooled", "kept", "resident", "native", "other"]
        {
            let (high, low) = (colour(name).max(paper), colour(name).min(paper));
            let contrast = (high + 0.05) / (low + 0.05);
            assert!(contrast >= 4.5, "{name}: {contrast:.2}");
        }
    }
}
