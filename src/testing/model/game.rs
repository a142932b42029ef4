//! One game: what it is played with, which operation comes next, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::random_batch;
use super::dice::Dice;
use super::naive::{Phase, State, Workflow};
use super::plan::{FOR_EVER, Size, TYPES, random_workflow};
use crate::clock::{Clock, Millis};
use crate::id::{SessionId, WorkflowId};
use crate::slice::Mask;
use crate::store::{LeaseReport, Session, Store, Tick};

/// The length of every lease of a game.
pub const LEASE: Millis = 1_000;
/// After how many of a hundred operations every single job is compared, which costs more than all else.
const JOBS_COMPARED: usize = 20;

/// What is wrong, in a sentence.
pub type Verdict<T = ()> = Result<T, String>;

/// A slice in a worker's hands.
#[derive(Clone, Debug)]
pub struct Held {
    pub workflow: usize,
    pub step: usize,
    pub first: usize,
    pub jobs: Mask,
    pub reports: u64,
}

/// A worker of the game.
#[derive(Debug)]
pub struct Hand {
    pub session: SessionId,
    pub last_lease: u64,
    pub last_draft: u64,
    pub held: BTreeMap<u64, Held>,
}

/// A game.
pub struct Game {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub dice: Dice,
    pub models: Vec<Workflow>,
    pub ids: Vec<WorkflowId>,
    pub hands: Vec<Hand>,
    pub client: Session,
    pub commands: u64,
    /// How many jobs the checkpoints of sources cover: workflow, step, index.
    pub covered: BTreeMap<(usize, usize, usize), usize>,
    /// How many jobs eager sources have emitted, in the same way.
    pub stored: BTreeMap<(usize, usize, usize), usize>,
    /// Which step of which batch the jobs of a kind are in.
    pub kinds: BTreeMap<(usize, usize), usize>,
    /// The workflows that stand for jobs, workflow, step, index: which one was made last, and of which generation the step was then.
    pub children: BTreeMap<(usize, usize, usize), (usize, u32)>,
    /// Reports under leases that the store has taken back, with the sessions that held them.
    pub late: Vec<(SessionId, LeaseReport)>,
    /// What was done, for who reads a failure.
    pub moves: Vec<String>,
}

impl Game {
    /// Sets a game up: some workflows and two or three workers.
    pub async fn new(store: Arc<dyn Store>, clock: Clock, seed: u64, size: Size) -> Verdict<Self> {
        let mut dice = Dice::new(seed);
        let client = session(&mut dice, false);
        let mut game = Self {
            store,
            clock,
            models: Vec::new(),
            ids: Vec::new(),
            hands: Vec::new(),
            client,
            commands: 0,
            covered: BTreeMap::new(),
            stored: BTreeMap::new(),
            kinds: BTreeMap::new(),
            children: BTreeMap::new(),
            late: Vec::new(),
            moves: Vec::new(),
            dice,
        };
        for _ in 0..2 + game.dice.below(2) {
            let hand = game.new_hand().await?;
            game.hands.push(hand);
        }
        for _ in 0..1 + game.dice.below(size.workflows) {
            let (now, shard) = (game.clock.now(), game.store.next_shard());
            let (model, create) = if game.dice.chance(25) {
                let holder = (game.client.id, game.models.len());
                random_batch(&mut game.dice, now, shard, holder)
            } else {
                random_workflow(&mut game.dice, size, now, shard)
            };
            let id = create.workflow.id;
            game.say(|| format!("create {}: {}", game_name(&model), model.steps.len()));
            sure(game.store.create(create.clone()).await)?;
            if game.dice.chance(20) {
                let again = sure(game.store.create(create).await)?;
                ensure(again.existed, || "a workflow created twice is told to be new".into())?;
            }
            game.models.push(model);
            game.ids.push(id);
        }
        game.settle(game.clock.now()).await?;
        Ok(game)
    }

    pub fn say(&mut self, what: impl FnOnce() -> String) {
        let time = self.clock.now();
        self.moves.push(format!("{time} {}", what()));
    }

    pub async fn new_hand(&mut self) -> Verdict<Hand> {
        let session = session(&mut self.dice, true);
        sure(self.store.join(session.clone()).await)?;
        Ok(Hand { session: session.id, last_lease: 0, last_draft: 0, held: BTreeMap::new() })
    }

    /// One random operation.
    pub async fn play(&mut self) -> Verdict {
        let since = self.clock.now();
        match self.dice.below(100) {
            0..=31 => self.claim_some().await?,
            32..=60 => self.report_some().await?,
            61..=64 => self.adopt_some().await?,
            65..=72 => self.time_goes_by().await?,
            73..=77 => self.worker_dies().await?,
            78..=79 => self.worker_leaves().await?,
            80..=82 => self.clock_jumps().await?,
            83..=85 => self.report_late().await?,
            86..=87 => self.leave_a_draft().await?,
            88..=93 => self.command().await?,
            _ => self.renew_all().await?,
        }
        self.settle(since).await
    }

    /// Works off what is due, and applies the model's rules.
    pub async fn settle(&mut self, since: Millis) -> Verdict {
        for _ in 0..10_000 {
            if !sure(self.store.tick(Tick { lease: LEASE }).await)?.more {
                self.apply_rules(since).await?;
                self.forget_covered();
                let jobs = self.dice.chance(JOBS_COMPARED);
                return self.compare(jobs).await;
            }
        }
        Err("ticks find something due for ever".into())
    }

    fn is_over(&self) -> bool {
        self.models.iter().all(is_over)
    }

    /// Gives every signal that nobody has given.
    async fn end_waits(&mut self) -> Verdict {
        for number in 0..self.models.len() {
            for step in 0..self.models[number].steps.len() {
                let (is_batch, of) = (self.models[number].batch.is_some(), &self.models[number].steps[step]);
                // Nobody else will give what has no end of its own.
                let has_no_end = of.waits.is_some_and(|(_, time, _)| time == FOR_EVER) && !is_batch;
                if has_no_end && !of.signalled && of.state <= State::Running {
                    self.signal(number, step).await?;
                    // What it decides for others may leave nothing to signal.
                    self.settle(self.clock.now()).await?;
                }
            }
        }
        Ok(())
    }

    /// Lets everything come to its end, without any further fault.
    pub async fn finish(&mut self) -> Verdict {
        for number in 0..self.models.len() {
            if self.models[number].phase == Phase::Paused {
                self.resume(number).await?;
            }
        }
        self.end_waits().await?;
        self.close_all().await?;
        self.settle(self.clock.now()).await?;
        let (mut idle, mut rounds) = (0, 0);
        while idle < 12 {
            rounds += 1;
            let mut moved = false;
            for hand in 0..self.hands.len() {
                moved |= self.claim(hand, 1024, 16).await? > 0;
                for lease in self.hands[hand].held.keys().copied().collect::<Vec<_>>() {
                    let since = self.clock.now();
                    self.report(hand, lease, true).await?;
                    self.settle(since).await?;
                    moved = true;
                }
            }
            if !moved && self.is_over() && sure(self.store.doctor().await)?.under_way == 0 {
                break;
            }
            // Now and then time goes by, too, while workers are handed what they cannot begin yet: the workflow that stands for it is being
            // cancelled.
            if !moved || rounds % 50 == 0 {
                // Only what waits for a time is left: 12 of these are longer than any wait, and than a lease.
                let since = self.clock.now();
                // Or for somebody to resume a step; also one that came to that when its source emitted.
                for number in 0..self.models.len() {
                    while self.resume_a_step(number).await? {}
                }
                // Or for what stands for a job, and was made since.
                self.end_waits().await?;
                self.renew_all().await?;
                self.clock.advance(10_000);
                self.renew_all().await?;
                self.settle(since).await?;
            }
            idle = if moved { 0 } else { idle + 1 };
        }
        for (number, model) in self.models.iter().enumerate() {
            ensure(is_over(model), || format!("workflow {number} is {:?} for ever", model.phase))?;
            let left = model.steps.iter().any(|step| step.state == State::Running);
            ensure(!left, || format!("workflow {number} is over with a step that runs"))?;
        }
        self.at_rest().await
    }
}

pub fn is_over(model: &Workflow) -> bool {
    matches!(model.phase, Phase::Succeeded | Phase::Failed | Phase::Cancelled)
}

fn game_name(model: &Workflow) -> String {
    let steps: Vec<String> = model
        .steps
        .iter()
        .map(|step| {
            format!(
                "{} jobs after {:?}{}{}",
                step.rows.len(),
                step.edges,
                if step.always { " always" } else { "" },
                step.feeds.map(|fed| format!(" feeds {fed}")).unwrap_or_default()
            )
        })
        .collect();
    format!("[{}]", steps.join("; "))
}

fn session(dice: &mut Dice, is_worker: bool) -> Session {
    let names = if is_worker { TYPES.map(String::from).to_vec() } else { Vec::new() };
    Session {
        id: SessionId::from_slice(&dice.bytes::<12>()).expect("twelve bytes"),
        host: "game".into(),
        pid: 1,
        queues: names.clone(),
        types: names,
        slots: 4,
        ..Session::new(LEASE)
    }
}

/// The store has no reason to refuse this.
pub fn sure<T>(answer: crate::Result<T>) -> Verdict<T> {
    answer.map_err(|error| format!("the store says: {error}"))
}

pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}
