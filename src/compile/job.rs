//! What a host and its compile child say to each other.
//!
//! The job is a line of JSON and the app's bytes behind it, on the child's standard input; the answer a line of JSON on
//! its standard output, and behind it the artifact's payload, if there is one. Both are the same program, so neither has
//! a version; that both make the same code of the same settings is compared all the same, since the host runs it.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Limits;
use crate::engine::{CompileError, EngineKind, EngineSettings};
use crate::pieces::InPieces;
use crate::prepare::preload::Preload;

/// Bytes that the line before the bytes may have.
/// The environment of an app that is preloaded is in it, which has 64 KiB at most, and more when it is written as JSON.
const LONGEST_LINE: u64 = 1 << 20;

/// What a child is to do, and what it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    pub settings: EngineSettings,
    pub engine: EngineKind,
    /// How the app is preloaded, if it is.
    pub preload: Option<Preload>,
    /// Of the host's engine, as [`crate::engine::compatibility`] has it.
    pub compatibility: String,
    /// Bytes of the app.
    pub length: u64,
    /// Bytes of memory that the child may have, and of the artifact.
    pub memory: u64,
    /// Seconds of processor time.
    pub cpu_time: u64,
    /// Its priority, as `nice` counts it.
    pub nice: u8,
    /// It gives way to whatever else has the lowest priority, too.
    pub is_last: bool,
    /// Processors that it may use.
    pub processors: usize,
    /// The process that it must not outlive.
    pub host: u32,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// The payload follows.
    Compiled { compatibility: String, length: u64 },
    /// The app's check refused it.
    Refused { reason: String },
    /// It can't be rewound.
    Ineligible { reason: String },
    /// The compiler found something.
    Failed { reason: String },
    /// This child's engine makes other code than the host's.
    Mismatch { compatibility: String },
}

impl Job {
    pub fn new(
        settings: &EngineSettings,
        engine: EngineKind,
        compatibility: &str,
        bytes: &[u8],
        limits: &Limits,
    ) -> Job {
        Job {
            settings: settings.clone(),
            engine,
            preload: None,
            compatibility: compatibility.to_owned(),
            length: bytes.len() as u64,
            memory: limits.memory,
            cpu_time: limits.cpu_time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
            nice: limits.nice,
            is_last: false,
            processors: limits.processors.get(),
            host: std::process::id(),
        }
    }

    pub fn write(&self, mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
        write_line(&mut to, self)?;
        InPieces(to).write_all(bytes)
    }

    /// The job, and where its bytes come from.
    pub fn read<R: Read>(from: R) -> io::Result<(Job, impl Read)> {
        let mut from = BufReader::new(InPieces(from));
        let job: Job = read_line(&mut from)?;
        let length = job.length;
        Ok((job, from.take(length)))
    }
}

impl Answer {
    pub fn write(&self, mut to: impl Write, payload: &[u8]) -> io::Result<()> {
        write_line(&mut to, self)?;
        InPieces(&mut to).write_all(payload)?;
        to.flush()
    }

    /// The payload out of a child's answer, or why there is none. `compatibility`: what the payload has to be made for;
    /// `longest`: bytes that it may have.
    pub fn read(from: impl Read, compatibility: &str, longest: u64) -> Result<Vec<u8>, CompileError> {
        let nonsense = |what: &str| CompileError::Process(format!("gave no valid answer: {what}"));
        let mut from = BufReader::new(InPieces(from));
        let answer = read_line(&mut from).map_err(|error| nonsense(&error.to_string()))?;
        let length = match answer {
            Answer::Compiled { compatibility: found, length } if found == compatibility => length,
            Answer::Compiled { compatibility: found, .. } | Answer::Mismatch { compatibility: found } => {
                return Err(CompileError::Process(format!(
                    "makes code for other engines than the host's ({} instead of {})",
                    brief(&found),
                    brief(compatibility)
                )));
            }
            Answer::Refused { reason } => return Err(CompileError::Refused(reason)),
            Answer::Ineligible { reason } => return Err(CompileError::Ineligible(reason)),
            Answer::Failed { reason } => return Err(CompileError::Compile(reason)),
        };
        if length > longest {
            return Err(nonsense(&format!("{length} bytes of code")));
        }
        let mut payload = Vec::new();
        let read = from.take(length.saturating_add(1)).read_to_end(&mut payload);
        read.map_err(|error| nonsense(&error.to_string()))?;
        if payload.len() as u64 == length {
            Ok(payload)
        } else {
            Err(nonsense(&format!("not the {length} bytes of code that it claims")))
        }
    }
}

/// The last line that a child said on its standard error, made fit for a message.
pub fn last_words(said: &[u8]) -> String {
    const SHOWN: usize = 200;
    let said = String::from_utf8_lossy(said);
    // Rust's own hints come last and say nothing of what happened.
    let is_told = |line: &&str| !line.is_empty() && !line.starts_with("note: ");
    let line = said.lines().map(str::trim).rfind(is_told).unwrap_or_default();
    let mut words = String::new();
    for char in line.chars().take(SHOWN) {
        if char.is_control() {
            let _ = write!(words, "{}", char.escape_default());
        } else {
            words.push(char);
        }
    }
    words
}

/// So much of a hash as tells it from another one.
fn brief(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn write_line(to: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<T> {
    let mut line = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no whole line"));
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef";

    fn read(answer: &[u8]) -> Result<Vec<u8>, CompileError> {
        Answer::read(answer, HASH, 100)
    }

    fn written(answer: &Answer, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        answer.write(&mut bytes, payload).expect("to memory");
        bytes
    }

    fn compiled(length: u64) -> Answer {
        Answer::Compiled { compatibility: HASH.to_owned(), length }
    }

    #[test]
    fn a_job_comes_with_its_bytes_and_nothing_behind_them() {
        let cpu_time = std::time::Duration::from_millis(1500);
        let config = crate::config::Compile { cpu_time, ..Default::default() };
        let limits = Limits::of(&config, 2);
        let job = Job::new(&EngineSettings::default(), EngineKind::Concurrent, HASH, b"\0asm", &limits);
        assert_eq!(job.cpu_time, 2, "the kernel counts seconds");
        let mut bytes = Vec::new();
        job.write(&mut bytes, b"\0asm\n and more").expect("to memory");
        let (read, mut from) = Job::read(bytes.as_slice()).expect("a job");
        let mut app = Vec::new();
        from.read_to_end(&mut app).expect("from memory");
        assert_eq!((read, app.as_slice()), (job, b"\0asm".as_slice()));
    }

    #[test]
    fn a_payload_is_taken_only_whole_and_for_this_engine() {
        assert_eq!(read(&written(&compiled(4), b"code")), Ok(b"code".to_vec()));
        for (length, payload) in [(5, "code"), (3, "code"), (101, "code"), (u64::MAX, "code")] {
            let error = read(&written(&compiled(length), payload.as_bytes())).expect_err("another length");
            assert!(error.to_string().contains("no valid answer"), "{length}: {error}");
        }
        let other = "fedcba9876543210".to_owned();
        let answers = [
            Answer::Compiled { compatibility: other.clone(), length: 4 },
            Answer::Mismatch { compatibility: other },
        ];
        for answer in answers {
            let error = read(&written(&answer, b"code")).expect_err("another engine").to_string();
            let expected = "the compiler makes code for other engines than the host's (fedcba987654 instead of 0123456789ab)";
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        let long = [b"{".repeat(LONGEST_LINE as usize), b"\n".to_vec()].concat();
        let cases: [&[u8]; 6] =
            [b"", b"hello\n", b"{}\n", b"\0\xff\n", b"{\"compiled\":{\"length\":1}}\n", &long];
        for bytes in cases {
            let error = read(bytes).expect_err("no answer").to_string();
            assert!(error.starts_with("the compiler gave no valid answer: "), "{error}");
        }
    }

    #[test]
    fn a_reason_is_passed_on_as_it_is() {
        let refused = written(&Answer::Refused { reason: "plain text".to_owned() }, b"");
        assert_eq!(read(&refused), Err(CompileError::Refused("plain text".to_owned())));
        let ineligible = written(&Answer::Ineligible { reason: "shared memory".to_owned() }, b"");
        assert_eq!(read(&ineligible), Err(CompileError::Ineligible("shared memory".to_owned())));
        let failed = written(&Answer::Failed { reason: "too many locals".to_owned() }, b"");
        assert_eq!(read(&failed), Err(CompileError::Compile("too many locals".to_owned())));
    }

    #[test]
    fn the_last_words_are_one_short_line() {
        assert_eq!(last_words(b""), "");
        assert_eq!(last_words(b"thread panicked:\ntoo large\nnote: run with"), "too large");
        assert_eq!(last_words(b"first\n last \x1b[2J\n\n"), "last \\u{1b}[2J");
        assert_eq!(last_words(&[b'x'; 1000]).len(), 200);
        assert_eq!(last_words(b"\xff"), "\u{fffd}");
    }
}
