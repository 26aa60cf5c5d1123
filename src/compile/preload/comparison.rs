//! Does a preloaded app answer as the plain one? Two fresh instances of each are asked two requests.
//!
//! Each of the two has a clock, random numbers and, as it is served, an environment of its own, and the plain instance
//! that it is compared with has the same. So answers are the same to the byte, unless what the instances had of the host
//! before that was not. Then those of the two plain instances differ, too: such answers can't be compared, but those of
//! the two preloaded ones must differ as well, or else what makes them differ is frozen in the image.

use super::guest::{Answer, Conditions, Guests};
use crate::prepare::preload::Source;

/// An instance's answers; none from where on it failed.
type Answers = Vec<Option<Answer>>;

/// # Errors
/// What is different.
pub async fn compare(usual: &Conditions<'_>, plain: &Guests, preloaded: &Guests) -> Result<(), String> {
    let other = usual.with_other(&[Source::Random, Source::Clocks]);
    let (mut plains, mut preloadeds) = (Vec::new(), Vec::new());
    for conditions in [usual, &other] {
        plains.push(answers(conditions, plain).await?);
        preloadeds.push(answers(conditions, preloaded).await?);
    }
    for (at, path) in usual.preload().compared.iter().enumerate() {
        let of = |answers: &[Answers]| {
            [answer(&answers[0], at), answer(&answers[1], at)].map(|answer| answer.is_some())
        };
        if of(&plains) != of(&preloadeds) {
            return Err(format!("preloaded, it does not answer GET {path} as often as without"));
        }
        if at == 0 && of(&plains) == [false, false] {
            return Err(format!(
                "it doesn't answer GET {path}, so it can't be compared with itself preloaded"
            ));
        }
        judge(path, [0, 1].map(|each| (answer(&plains[each], at), answer(&preloadeds[each], at))))?;
    }
    Ok(())
}

fn answer(answers: &Answers, at: usize) -> Option<&Answer> {
    answers.get(at).and_then(Option::as_ref)
}

async fn answers(conditions: &Conditions<'_>, guests: &Guests) -> Result<Answers, String> {
    let mut guest = guests.start(conditions).await?;
    let mut answers = Vec::new();
    for path in &conditions.preload().compared {
        let answer = guest.ask(path).await.ok();
        let has_failed = answer.is_none();
        answers.push(answer);
        if has_failed {
            break;
        }
    }
    Ok(answers)
}

/// Judges the answers of two pairs of a plain and a preloaded instance.
fn judge(path: &str, pairs: [(Option<&Answer>, Option<&Answer>); 2]) -> Result<(), String> {
    let [(plain, preloaded), (other_plain, other_preloaded)] = pairs;
    if plain == preloaded && other_plain == other_preloaded {
        return Ok(());
    }
    let difference = match (plain, preloaded, other_plain, other_preloaded) {
        (Some(a), Some(b), ..) if a != b => difference(a, b),
        (_, _, Some(a), Some(b)) => difference(a, b),
        _ => String::new(),
    };
    let status = |answer: Option<&Answer>| answer.map(|answer| answer.status);
    let same_status = status(plain) == status(preloaded) && status(other_plain) == status(other_preloaded);
    if plain == other_plain || !same_status {
        return Err(format!(
            "preloaded, its answer to GET {path} is not the one that it gives without: {difference}"
        ));
    }
    if preloaded == other_preloaded {
        return Err(format!(
            "its answers to GET {path} are made of random numbers or the time, and preloaded all instances would give the \
             same: {difference}"
        ));
    }
    Ok(())
}

fn difference(plain: &Answer, preloaded: &Answer) -> String {
    if plain.status != preloaded.status {
        return format!("{} instead of {}", preloaded.status, plain.status);
    }
    if plain.headers != preloaded.headers {
        return "other header fields".to_owned();
    }
    let (a, b) = (&plain.body, &preloaded.body);
    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    format!("the body differs at byte {at}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }
    }

    /// Of the first plain and preloaded instance, and the second.
    fn judged(bodies: [&'static str; 4]) -> Result<(), String> {
        let [a, b, c, d] = bodies.map(|body| answer(200, body));
        judge("/", [(Some(&a), Some(&b)), (Some(&c), Some(&d))])
    }

    #[test]
    fn answers_that_only_vary_as_the_plain_ones_do_are_accepted() {
        assert_eq!(judged(["a", "a", "a", "a"]), Ok(()));
        assert_eq!(judged(["a", "a", "b", "b"]), Ok(()));
        assert_eq!(judged(["1", "2", "3", "4"]), Ok(()));
    }

    #[test]
    fn another_answer_and_one_that_is_frozen_are_named() {
        let error = judged(["count=1", "count=2", "count=1", "count=2"]).expect_err("it counts");
        assert!(error.ends_with("the body differs at byte 6"), "{error}");
        let error = judged(["a1", "a9", "a2", "a9"]).expect_err("it is frozen");
        assert!(error.contains("random numbers or the time"), "{error}");
        let (a, b, c, d) = (answer(200, "1"), answer(500, "2"), answer(200, "3"), answer(200, "4"));
        let error = judge("/", [(Some(&a), Some(&b)), (Some(&c), Some(&d))]).expect_err("it fails");
        assert!(error.ends_with("500 Internal Server Error instead of 200 OK"), "{error}");
    }
}
