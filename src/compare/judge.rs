//! What the answers have to be, and who answers otherwise. Pure.

use super::load::Expected;
use super::report::Skipped;
use super::sample::Sample;

/// What one server answered: its name, and of each request every answer.
pub type Answers = (String, Vec<Vec<Sample>>);

/// Of each request what to expect and the answer itself, and the servers that answer otherwise.
#[derive(Debug, Default)]
pub struct Verdict {
    pub expected: Vec<Expected>,
    pub answers: Vec<Sample>,
    pub wrong: Vec<Skipped>,
}

/// Judges the modes: each request's answer is as in the first mode in which it is no failure. `None` if a request has
/// none in any, and who fails how.
pub fn judge(modes: &[Answers]) -> Result<Verdict, Vec<Skipped>> {
    let requests = modes.iter().map(|(_, samples)| samples.len()).max().unwrap_or_default();
    let mut verdict = Verdict::default();
    for request in 0..requests {
        let of =
            |(name, samples): &Answers| (name.clone(), samples.get(request).cloned().unwrap_or_default());
        let answers = modes.iter().map(of).collect::<Vec<_>>();
        let (expected, answer, mut wrong) = of_one_request(&answers);
        if requests > 1 {
            wrong.iter_mut().for_each(|one| one.reason = format!("request {}: {}", request + 1, one.reason));
        }
        let Some((expected, answer)) = expected.zip(answer) else { return Err(wrong) };
        wrong.retain(|one| !verdict.wrong.iter().any(|known| known.mode == one.mode));
        verdict.wrong.extend(wrong);
        verdict.expected.push(expected);
        verdict.answers.push(answer);
    }
    if verdict.wrong.len() == modes.len() { Err(verdict.wrong) } else { Ok(verdict) }
}

/// What another server's answers are held to: it may say the same in other words, but not fail where the app does not.
pub fn expect_of_other(samples: &[Vec<Sample>], answers: &[Sample]) -> Result<Vec<Expected>, String> {
    let pairs = samples.iter().zip(answers).enumerate();
    pairs
        .map(|(at, (own, answer))| {
            let first = own.first().ok_or("it was not asked")?;
            let wrong = own.iter().find(|sample| sample.status != answer.status);
            if let Some(wrong) = wrong {
                let (number, status) = (at + 1, answer.status);
                return Err(format!("request {number}: it answers {}, but the app {status}", wrong.status));
            }
            let body = alike(own).then(|| first.body.clone());
            Ok(Expected { status: first.status.as_u16(), body })
        })
        .collect()
}

/// A word about another server whose answers are not the app's.
pub fn differs(name: &str, samples: &[Vec<Sample>], answers: &[Sample]) -> Option<String> {
    let pairs = samples.iter().filter_map(|own| own.first()).zip(answers);
    let (own, answer) = pairs.into_iter().find(|(own, answer)| own.body != answer.body)?;
    let (own, answer) = (own.body.len(), answer.body.len());
    Some(format!("{name}: its answer has another body ({own} bytes) than the app's ({answer} bytes)"))
}

fn alike(samples: &[Sample]) -> bool {
    samples.iter().all(|sample| samples.first().is_some_and(|first| sample.body == first.body))
}

/// What to expect, the answer itself, and who answers otherwise.
fn of_one_request(answers: &[(String, Vec<Sample>)]) -> (Option<Expected>, Option<Sample>, Vec<Skipped>) {
    let first = answers.iter().find_map(|(name, samples)| {
        let sample = samples.iter().find(|sample| !sample.status.is_server_error())?;
        Some((name, sample))
    });
    let Some((reference, answer)) = first else {
        let skip = |(name, samples): &(String, Vec<Sample>)| {
            let status = samples.first().map(|sample| sample.status.to_string()).unwrap_or_default();
            Skipped { mode: name.clone(), reason: format!("the app answers {status}") }
        };
        return (None, None, answers.iter().map(skip).collect());
    };
    let varies = answers.iter().any(|(_, samples)| !alike(samples));
    let expected = Expected { status: answer.status.as_u16(), body: (!varies).then(|| answer.body.clone()) };
    let reason = |sample: &Sample| match sample.status == answer.status {
        false => Some(format!("it answers {}, but {reference} {}", sample.status, answer.status)),
        true if varies || sample.body == answer.body => None,
        true => Some(format!("its answer has another body than that of {reference}")),
    };
    let skip = |(name, samples): &(String, Vec<Sample>)| {
        Some(Skipped { mode: name.clone(), reason: samples.iter().find_map(reason)? })
    };
    (Some(expected), Some(answer.clone()), answers.iter().filter_map(skip).collect())
}

#[cfg(test)]
mod tests;
