//! What a schedule is: a rule, what it starts or enqueues, and what becomes of instants at which that was not possible. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cron::Rule;
use crate::clock::{Millis, millis};
use crate::error::{Error, Result};
use crate::id::{WorkflowId, shard_of};
use crate::payload::ChunkBuilder;
use crate::slice::Mask;
use crate::start_job::{StartJob, start_type};
use crate::store::{Key, Lane, LoneJobs, Occurrence, Waits};

/// How late an instant is fired as if it were on time, unless told otherwise.
const GRACE: Duration = Duration::from_secs(60);
/// The most instants that are made up for.
const MOST_MISSED: u32 = 500;
/// The most bytes of arguments: eight schedules that are due come in one answer.
const MOST_BYTES: usize = 24 * 1024;
/// The longest grace, and the longest jitter: a year.
const LONGEST: Millis = 366 * 86_400_000;

/// What becomes of instants that were missed, since nothing ran that could have fired them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The last of them is fired, unless one is due by now that is on time.
    #[default]
    Last,
    /// The last so many of them are fired, at most 500.
    All(u32),
    /// They are left out.
    None,
}

/// A schedule as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    pub rule: Rule,
    pub what: What,
    pub queue: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    #[serde(default)]
    pub missed: Missed,
    pub grace: Millis,
    #[serde(default)]
    pub jitter: Millis,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// What is done at each instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum What {
    /// A workflow is started.
    Start {
        workflow: String,
        /// As JSON, with `{at}` for the instant.
        arguments: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Key>,
    },
    /// A lone job is enqueued.
    Enqueue {
        job: String,
        /// As JSON, with `{at}` for the instant.
        parameters: String,
    },
}

impl Definition {
    pub fn new(rule: Rule, what: What, queue: impl Into<String>) -> Self {
        let queue = queue.into();
        Self { rule, what, queue, priority: 0, missed: Missed::default(), grace: millis(GRACE), jitter: 0 }
    }

    /// From what a store holds.
    pub fn decode(name: &str, json: &str) -> Result<Self> {
        let unreadable = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::corrupt(format!(
                "schedule `{name}` cannot be read; a newer version of this program may have written it"
            ))
            .because(cause)
        };
        let definition: Self = serde_json::from_str(json).map_err(|error| unreadable(error.into()))?;
        definition.check().map_err(|error| unreadable(error.into()))?;
        Ok(definition)
    }

    /// Refuses what could not be fired.
    pub fn check(&self) -> Result<()> {
        if matches!(self.missed, Missed::All(most) if !(1..=MOST_MISSED).contains(&most)) {
            return Err(Error::usage(format!("of what was missed, 1 to {MOST_MISSED} instants are made up for")));
        }
        for (what, time) in [("grace", self.grace), ("jitter", self.jitter)] {
            if !(0..=LONGEST).contains(&time) {
                return Err(Error::usage(format!("the {what} is at most a year")));
            }
        }
        let arguments = self.sample()?.len();
        if arguments > MOST_BYTES {
            return Err(Error::usage(format!(
                "the arguments of a schedule have {arguments} bytes as JSON; at most {MOST_BYTES} are allowed. Put large data into a shared \
                 location and pass where it is"
            )));
        }
        Ok(())
    }

    /// The arguments or parameters of some instant.
    pub fn sample(&self) -> Result<String> {
        let (What::Start { arguments: json, .. } | What::Enqueue { parameters: json, .. }) = &self.what;
        fill(json, &self.rule, 0)
    }

    pub fn encode(&self) -> Result<(String, String)> {
        let json = |value: Result<String, serde_json::Error>| {
            value.map_err(|e| Error::usage("a schedule cannot be written as JSON").because(e))
        };
        Ok((json(serde_json::to_string(&self.rule))?, json(serde_json::to_string(self))?))
    }

    /// The shard on which it lives: where the key is that its workflows hold.
    pub fn shard(&self, name: &str, shards: u16) -> u16 {
        match &self.what {
            What::Start { workflow, key: Some(key), .. } => shard_of(&format!("{workflow}/{}", key.key), shards),
            _ => shard_of(&format!("schedule\0{name}"), shards),
        }
    }

    /// The jobs of as many of these instants as fit into one call; at least of the first.
    pub fn jobs(&self, name: &str, shard: u16, instants: &[Millis]) -> Result<Option<LoneJobs>> {
        let (mut chunk, mut due, mut ids) = (ChunkBuilder::default(), Vec::new(), Vec::new());
        for (number, &at) in instants.iter().enumerate() {
            let id = WorkflowId::of_occurrence(shard, name, at);
            let json = self.parameters(name, id, at)?;
            if !chunk.has_room(&json) {
                break;
            }
            chunk.push(&json)?;
            ids.push(id);
            if self.jitter > 0 {
                due.push((at.saturating_add(id.share_of(self.jitter)), Mask::range(number..number + 1)));
            }
        }
        let waits = match &self.what {
            What::Start { workflow, key: Some(key), .. } if key.overlap.waits() => {
                Some(Waits { name: workflow.clone(), key: key.key.clone(), ids })
            }
            _ => None,
        };
        let lane = Lane::new(shard, &self.queue, self.priority, &self.job_type());
        Ok(chunk.finish().map(|chunk| LoneJobs { lane, chunk, due, deadlines: Vec::new(), waits }))
    }

    fn job_type(&self) -> String {
        match &self.what {
            What::Start { workflow, .. } => start_type(workflow),
            What::Enqueue { job, .. } => job.clone(),
        }
    }

    fn parameters(&self, name: &str, id: WorkflowId, at: Millis) -> Result<Vec<u8>> {
        match &self.what {
            What::Enqueue { parameters, .. } => Ok(fill(parameters, &self.rule, at)?.into_bytes()),
            What::Start { workflow, arguments, key } => StartJob {
                workflow: workflow.clone(),
                arguments: fill(arguments, &self.rule, at)?,
                id,
                key: key.clone(),
                occurrence: Some(Occurrence { schedule: name.to_owned(), at }),
                retention: None,
            }
            .to_json(),
        }
    }

    pub fn starts(&self) -> bool {
        matches!(self.what, What::Start { .. })
    }

    /// In words: what it starts or enqueues.
    pub fn what_it_does(&self) -> String {
        match &self.what {
            What::Start { workflow, .. } => format!("start {workflow}"),
            What::Enqueue { job, .. } => format!("enqueue {job}"),
        }
    }
}

/// JSON with `{at}` in its strings replaced by an instant in RFC 3339, and `{at:FORMAT}` by what that format of `strftime` makes of it, both
/// in the zone of the rule.
fn fill(json: &str, rule: &Rule, at: Millis) -> Result<String> {
    if !json.contains("{at") {
        return Ok(json.to_owned());
    }
    let mut value: Value =
        serde_json::from_str(json).map_err(|e| Error::usage("the arguments of a schedule are not JSON").because(e))?;
    fill_value(&mut value, rule, at)?;
    Ok(value.to_string())
}

fn fill_value(value: &mut Value, rule: &Rule, at: Millis) -> Result<()> {
    match value {
        Value::String(text) => *text = fill_text(text, rule, at)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill_value(item, rule, at))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|field| fill_value(field, rule, at))?,
        _ => {}
    }
    Ok(())
}

fn fill_text(text: &str, rule: &Rule, at: Millis) -> Result<String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("{at") {
        filled.push_str(before);
        let Some((inside, after)) = behind.split_once('}') else {
            return Err(Error::usage(format!("`{text}` has a {{at without its closing brace")));
        };
        match inside.strip_prefix(':') {
            Some(format) => filled.push_str(&rule.format(at, format)?),
            None if inside.is_empty() => filled.push_str(&rule.show(at)),
            None => {
                return Err(Error::usage(format!(
                    "`{{at{inside}}}` is not known; there are {{at}} and {{at:%Y-%m-%d}}"
                )));
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn an_instant_stands_in_for_its_placeholder_as_the_walls_of_the_zone_show_it() {
        let rule = Rule::cron("0 2 * * *", "Europe/Berlin").unwrap();
        let at = at("2026-11-28T01:00:00Z");
        let filled = |json: &str| fill(json, &rule, at);
        assert_eq!(filled(r#"{"n":1.50}"#).unwrap(), r#"{"n":1.50}"#);
        assert_eq!(
            filled(r#"{"day":"{at:%Y-%m-%d}","since":["{at}"]}"#).unwrap(),
            r#"{"day":"2026-11-28","since":["2026-11-28T02:00:00+01:00"]}"#
        );
        for (json, told) in [
            (r#"["{at"]"#, "without its closing brace"),
            (r#"["{at.day}"]"#, "there are {at} and {at:%Y-%m-%d}"),
            (r#"["{at:%!}"]"#, "`%!` is no format of a time"),
        ] {
            let error = filled(json).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn each_instant_starts_later_by_a_share_of_the_jitter_that_is_always_its_own() {
        let what = What::Enqueue { job: "Mail".into(), parameters: "null".into() };
        let hourly = Rule::every(Duration::from_secs(3_600)).unwrap();
        let definition = Definition { jitter: 60_000, ..Definition::new(hourly, what, "default") };
        let instants: Vec<Millis> = (1..=30).map(|n| n * 3_600_000).collect();
        let later = || {
            let jobs = definition.jobs("mail", 0, &instants).unwrap().unwrap();
            assert_eq!(jobs.chunk.jobs, 30);
            let due: Vec<Millis> = jobs.due.iter().zip(&instants).map(|((due, _), at)| due - at).collect();
            due
        };
        assert!(later().iter().all(|later| (0..60_000).contains(later)), "{:?}", later());
        assert!(
            later().iter().filter(|later| **later < 30_000).count().abs_diff(15) < 9,
            "they are spread: {:?}",
            later()
        );
        assert_eq!(later(), later());
    }

    #[test]
    fn arguments_that_do_not_fit_into_one_call_come_in_several() {
        // Not compressible, as it stands there.
        let arguments = serde_json::to_string(&"x".repeat(24_000)).unwrap();
        let what = What::Start { workflow: "Import".into(), arguments, key: None };
        let definition = Definition::new(Rule::every(Duration::from_secs(1)).unwrap(), what, "default");
        let instants: Vec<Millis> = (0..32).map(|n| n * 1_000).collect();
        let jobs = definition.jobs("large", 0, &instants).unwrap().unwrap();
        assert!((1..32).contains(&jobs.chunk.jobs), "{}", jobs.chunk.jobs);
    }

    #[test]
    fn a_definition_comes_back_from_a_store_as_it_was_and_one_of_a_later_version_is_refused() {
        let what = What::Enqueue { job: "Mail".into(), parameters: "null".into() };
        let definition = Definition::new(Rule::every(Duration::from_secs(5)).unwrap(), what, "default");
        let (_, json) = definition.encode().unwrap();
        assert_eq!(Definition::decode("mail", &json).unwrap(), definition);
        let later = json.replacen('{', r#"{"calendar":"holidays","#, 1);
        let error = Definition::decode("mail", &later).unwrap_err().to_string();
        assert!(error.contains("schedule `mail` cannot be read; a newer version"), "{error}");
    }
}
