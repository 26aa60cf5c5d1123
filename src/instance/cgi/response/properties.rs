use proptest::prelude::*;

use super::tests::outcome;
use super::*;

/// Outputs with parts that are nearly right, so that the deep states are reached.
fn outputs() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&[u8]> = vec![
        b"Content-Type: text/plain",
        b"Status: 404 Not Found",
        b"Status: 303",
        b"Location: /a?b",
        b"Location: https://a.example/",
        b"Content-Length: 3",
        b"X-A:b",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\r",
        b" ",
        b":",
        b"body",
        b"HTTP/1.1 200 OK",
    ];
    let part = prop_oneof![
        12 => proptest::sample::select(parts).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

/// Well-formed lines in any order, as random parts rarely make a whole head.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let fields = vec![
        "Content-Type: text/plain",
        "Status: 404 Not Found",
        "Status: 303",
        "Location: /a?b",
        "Location: https://a.example/",
        "X-A: b",
    ];
    let fields = proptest::sample::subsequence(fields, 1..4).prop_shuffle();
    (fields, "(\n|\r\n)", "[a-z\r\n]{0,6}").prop_map(|(fields, end, body)| {
        let lines: String = fields.iter().map(|field| format!("{field}{end}")).collect();
        format!("{lines}{end}{body}").into_bytes()
    })
}

/// How much of a forbidden body was in the chunk is no part of the outcome.
fn without_body_excerpt(outcome: Result<Head, BadResponse>) -> Result<Head, BadResponse> {
    outcome.map_err(|mut fault| {
        if let BadResponse::NoContentType { printed } | BadResponse::BodyAfterLocalRedirect { printed } =
            &mut fault
        {
            printed.clear();
        }
        fault
    })
}

proptest! {
    #[test]
    fn the_cut_into_chunks_makes_no_difference(
        output in prop_oneof![outputs(), heads()],
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        limit in 0..200_usize,
    ) {
        let whole = without_body_excerpt(outcome([&output[..]], limit));
        let bytewise = without_body_excerpt(outcome(output.chunks(1), limit));
        prop_assert_eq!(&whole, &bytewise);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
        cuts.extend([0, output.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| &output[pair[0]..pair[1]]);
        prop_assert_eq!(&whole, &without_body_excerpt(outcome(chunks, limit)));
    }

    #[test]
    fn any_bytes_give_an_answer_within_the_bounds(
        output in proptest::collection::vec(any::<u8>(), 0..400),
        limit in 0..300_usize,
    ) {
        match outcome(output.chunks(7), limit) {
            Err(fault) => prop_assert!(fault.to_string().len() < 500),
            Ok(Head::Document(document) | Head::ClientRedirect(document)) => {
                prop_assert!(output.len() - document.rest.len() <= limit);
            }
            Ok(Head::LocalRedirect { .. }) => prop_assert!(output.len() <= limit),
        }
    }

    #[test]
    fn a_good_document_comes_through_whole(
        status in 200..600_u16,
        fields in proptest::collection::vec(("x-[a-z0-9-]{1,10}", "[!-~]{0,20}"), 0..10),
        body in proptest::collection::vec(any::<u8>(), 0..100),
        end in "(\n|\r\n)",
    ) {
        prop_assume!(fields.iter().all(|(name, _)| !name.starts_with("x-cgi-")));
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}{end}")).collect();
        let head = format!("Status: {status}{end}{lines}Content-Type: a/b{end}{end}");
        let Ok(Head::Document(document)) = outcome([head.as_bytes(), &body], 1024 * 1024) else {
            return Err(TestCaseError::fail("no document"));
        };
        prop_assert_eq!(document.status.as_u16(), status);
        prop_assert_eq!(&document.rest, &body);
        prop_assert_eq!(document.headers.len(), fields.len() + 1);
        for (name, value) in &fields {
            let values = document.headers.get_all(name.as_str());
            prop_assert!(values.iter().any(|kept| kept == value.as_str()));
        }
    }
}
