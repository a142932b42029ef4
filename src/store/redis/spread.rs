//! The verbs that ask more than one shard: what a session does, which is known to each of them, and lists.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};

use super::script::{self, Answer as Told, Blobs};
use super::shard::Shard;
use super::{RedisStore, answers, health, parameters, wake};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::payload::plain;
use crate::store::*;

impl RedisStore {
    pub(super) async fn join_all(&self, session: Session) -> Result<()> {
        let parameters = parameters::join(&session, &wake::channel(&self.options.prefix, session.id))?;
        let join = |shard| {
            let parameters = parameters.clone();
            async move { self.run::<Value>(shard, "join", &script::SESSION, parameters, Blobs::default()).await }
        };
        try_join_all(self.shards.iter().map(join)).await?;
        self.wakers.listen(&self.link, &self.options.prefix, &session);
        Ok(())
    }

    pub(super) async fn leave_all(&self, session: SessionId) -> Result<Left> {
        let leave = |shard| async move {
            let parameters = json!({ "session": session.to_string(), "killed": parameters::killed() });
            let told =
                self.run::<answers::Left>(shard, "leave", &script::SESSION, parameters, Blobs::default()).await?;
            Ok::<Left, crate::Error>(told.json.into())
        };
        let mut left = Left::default();
        for one in try_join_all(self.shards.iter().map(leave)).await? {
            left.more |= one.more;
            left.woken.0.extend(one.woken.0);
        }
        if !left.more {
            self.wakers.stop(session);
            self.shards.forget(session);
        }
        Ok(left)
    }

    /// Claims from one shard after the other, until the worker has enough.
    pub(super) async fn claim_in_turn(&self, claim: Claim) -> Result<Claimed> {
        let (session, first_lease) = (claim.session, claim.first_lease);
        let before = self.shards.granted_before(session, first_lease);
        let mut claimed =
            if before.is_empty() { self.claim_anew(claim).await? } else { self.claim_again(claim, before).await? };
        // A shard that was away grants numbers from before that; the next claim must not look like this one sent again all the same.
        claimed.last_lease = claimed.last_lease.max(first_lease);
        claimed.slices.sort_by_key(|slice| slice.lease);
        claimed.unanswered = self.shards.has_unanswered(session);
        Ok(claimed)
    }

    /// What a claim was granted before, as far as it is still held.
    async fn claim_again(&self, mut claim: Claim, before: Vec<(&Shard, u64)>) -> Result<Claimed> {
        let mut all = Claimed::default();
        for (shard, first_lease) in before {
            claim.first_lease = first_lease;
            let claimed = self.claim_on(shard, &claim).await?;
            all.slices.extend(claimed.slices);
            all.last_lease = all.last_lease.max(claimed.last_lease);
        }
        Ok(all)
    }

    /// A shard that is away does not keep the worker from the others.
    async fn claim_anew(&self, mut claim: Claim) -> Result<Claimed> {
        let (session, first_in_session, most_held) = (claim.session, claim.first_lease, claim.most_held);
        let mut all = Claimed { empty: true, idle: true, ..Claimed::default() };
        let (mut last, mut drains_for, mut away) = (0, None, None);
        for (shard, first_lease) in self.shards.visit(session, first_in_session) {
            if self.shards.count() > 1 && shard.is_away() {
                away = Some(Error::unavailable(format!("shard {} is away", shard.number)));
                continue;
            }
            claim.first_lease = first_lease;
            claim.most_held = most_held.map(|most| self.shards.room_on(session, shard.number, most));
            let claimed = match self.claim_on(shard, &claim).await {
                Err(error) if error.is_transient() && self.shards.count() > 1 => {
                    tracing::debug!(%error, shard = shard.number, "a claim was not answered");
                    // It may have been granted: the permits that came with it are not for another shard.
                    claim.permits.iter_mut().for_each(|(_, jobs)| *jobs = 0);
                    away = Some(error);
                    continue;
                }
                claimed => claimed?,
            };
            if !claimed.slices.is_empty() {
                self.shards.granted(session, first_in_session, shard.number, first_lease);
            }
            if claimed.drain {
                all.drain = true;
                drains_for.get_or_insert(shard.number);
            }
            if most_held.is_some() {
                all.held = self.shards.holds(session, shard.number, claimed.held);
            }
            less(&mut claim, &claimed.slices);
            last = shard.number;
            all.slices.extend(claimed.slices);
            all.waits.extend(claimed.waits);
            all.last_lease = all.last_lease.max(claimed.last_lease);
            all.woken.0.extend(claimed.woken.0);
            all.empty &= claimed.empty;
            all.idle &= claimed.idle;
            let runs_alone = all.slices.iter().any(|slice| slice.suspect);
            let wants_more = claim.max_leases > 0 && claim.takes.iter().any(|take| take.budget > 0);
            if self.shards.count() > 1 && !all.slices.is_empty() && !wants_more {
                // The others may have more.
                (all.empty, all.idle) = (false, false);
            }
            if runs_alone || !all.empty {
                break;
            }
        }
        all.waits.sort_unstable();
        all.waits.dedup();
        self.shards.begin_with(session, drains_for.unwrap_or(last + 1));
        if !all.idle || away.is_some() {
            self.is_not_idle(session).await;
        }
        match away {
            Some(error) if all.last_lease == 0 => Err(error),
            Some(_) => Ok(Claimed { idle: false, ..all }),
            None => Ok(all),
        }
    }

    async fn claim_on(&self, shard: &Shard, claim: &Claim) -> Result<Claimed> {
        self.shards.asks(claim.session, shard.number, claim.first_lease);
        let told = self.run(shard, "claim", &script::CLAIM, parameters::claim(claim), Blobs::default()).await?;
        let mut claimed = answers::claimed(shard.number, told)?;
        self.shards.answered(claim.session, shard.number, claimed.idle);
        claimed.last_lease = self.shards.last_in_session(claimed.last_lease);
        for slice in &mut claimed.slices {
            slice.lease = self.shards.lease_in_session(shard.number, slice.lease);
        }
        Ok(claimed)
    }

    /// Takes a worker off the lists of idle ones where it stands: a wake-up there would be lost on it.
    async fn is_not_idle(&self, session: SessionId) {
        let leave = |shard| async move {
            let parameters = json!({ "session": session.to_string() });
            self.run::<Value>(shard, "is busy", &script::SESSION, parameters, Blobs::default()).await
        };
        // Whoever it is that is woken in vain then, the others look for themselves before long.
        if let Err(error) = try_join_all(self.shards.not_idle(session).into_iter().map(leave)).await {
            tracing::debug!(%error, "a worker that is busy still counts as idle");
        }
    }

    pub(super) async fn renew_all(&self, renew: Renew) -> Result<Renewed> {
        // The session lives on every shard. Where a draft is nobody has noted: the others do not know it.
        let part = Renew { leases: Vec::new(), progress: Vec::new(), ..renew.clone() };
        let mut parts: Vec<Renew> = self.shards.iter().map(|_| part.clone()).collect();
        let leases = renew.leases;
        for lease in &leases {
            let (shard, number) = self.shards.lease(*lease);
            parts[usize::from(shard)].leases.push(number);
        }
        for (lease, text) in renew.progress {
            let (shard, number) = self.shards.lease(lease);
            parts[usize::from(shard)].progress.push((number, text));
        }
        let renewals = self.shards.iter().zip(parts).map(|(shard, part)| (shard.number, self.renew_on(shard, part)));
        let (answers, away) = self.of_those_there(renewals).await?;
        let mut all = Renewed { away: self.leases_on(&away, leases), away_shards: away, ..Renewed::default() };
        for (shard, one) in answers {
            let in_session = |lease| self.shards.lease_in_session(shard, lease);
            all.lost.extend(one.lost.into_iter().map(in_session));
            all.cancelled.extend(one.cancelled.into_iter().map(in_session));
            all.stopped.extend(one.stopped.into_iter().map(|(lease, jobs)| (in_session(lease), jobs)));
        }
        Ok(all)
    }

    /// Those leases that are on shards which are away.
    fn leases_on(&self, away: &[u16], mut leases: Vec<u64>) -> Vec<u64> {
        leases.retain(|lease| away.contains(&self.shards.lease(*lease).0));
        leases
    }

    /// What several shards answer, and which of them are away: those do not hold up the others. An error if the whole store is, or if one
    /// has another reason.
    pub(super) async fn of_those_there<T>(
        &self,
        calls: impl Iterator<Item = (u16, impl Future<Output = Result<T>>)>,
    ) -> Result<(Vec<(u16, T)>, Vec<u16>)> {
        let (mut answers, mut away, mut why) = (Vec::new(), Vec::new(), None);
        for (shard, answer) in join_all(calls.map(async |(shard, call)| (shard, call.await))).await {
            match answer {
                Ok(answer) => answers.push((shard, answer)),
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, shard, "a shard is away");
                    away.push(shard);
                    why = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match why {
            Some(error) if away.len() == usize::from(self.shards.count()) => Err(error),
            _ => Ok((answers, away)),
        }
    }

    async fn renew_on(&self, shard: &Shard, part: Renew) -> Result<Renewed> {
        let parameters = parameters::renew(&part);
        answers::renewed(self.run(shard, "renew", &script::SESSION, parameters, Blobs::default()).await?)
    }

    pub(super) async fn report_all(&self, report: Report) -> Result<Reported> {
        report.check()?;
        let leases = report.leases.iter().map(|part| part.lease).collect();
        let mut parts: BTreeMap<u16, Vec<LeaseReport>> = BTreeMap::new();
        for mut part in report.leases {
            let (shard, number) = self.shards.lease(part.lease);
            part.lease = number;
            if !self.options.compress && !part.record.is_empty() {
                part.record = plain(&part.record)?;
            }
            for added in part.added.iter_mut().filter(|_| !self.options.compress) {
                added.chunk.body = plain(&added.chunk.body)?;
            }
            parts.entry(shard).or_default().push(part);
        }
        let report_there = |(number, leases)| {
            let there = async move {
                let (parameters, blobs) = parameters::report(Report { session: report.session, leases })?;
                let shard = self.shards.numbered(number)?;
                answers::Reported::all(self.run(shard, "report", &script::REPORT, parameters, blobs).await?)
            };
            (number, there)
        };
        let (answers, away) = self.of_those_there(parts.into_iter().map(report_there)).await?;
        let mut all = Reported { away: self.leases_on(&away, leases), ..Reported::default() };
        for (shard, one) in answers {
            let in_session = |lease| self.shards.lease_in_session(shard, lease);
            all.refused.extend(one.refused.into_iter().map(in_session));
            all.cancelled.extend(one.cancelled.into_iter().map(in_session));
            all.stopped.extend(one.stopped.into_iter().map(|(lease, jobs)| (in_session(lease), jobs)));
            all.known_errors.extend(one.known_errors.into_iter().map(|(lease, error)| (in_session(lease), error)));
            all.more |= one.more;
            all.woken.0.extend(one.woken.0);
        }
        Ok(all)
    }

    /// Does what is due on every shard.
    pub(super) async fn tick_all(&self, tick: Tick) -> Result<Ticked> {
        let ticks = self.shards.iter().map(|shard| (shard.number, self.tick_on(shard, tick)));
        let (answers, _) = self.of_those_there(ticks).await?;
        let mut all = Ticked::default();
        for (_, one) in answers {
            all.more |= one.more;
            all.ready |= one.ready;
            all.next_in = [all.next_in, one.next_in].into_iter().flatten().min();
            all.schedules.extend(one.schedules);
            all.told.0.extend(one.told.0);
            all.woken.0.extend(one.woken.0);
        }
        Ok(all)
    }

    async fn tick_on(&self, shard: &Shard, tick: Tick) -> Result<Ticked> {
        let parameters =
            json!({ "lease": tick.lease, "killed": parameters::killed(), "child_failed": parameters::child_failed() });
        let ahead: Told<answers::Ticked> =
            self.run(shard, "look ahead", &script::TICK, parameters.clone(), Blobs::default()).await?;
        if !ahead.json.more {
            return ahead.json.on(shard.number);
        }
        let ticked: Told<answers::Ticked> =
            self.run(shard, "tick", &script::TICK, parameters, Blobs::default()).await?;
        ticked.json.on(shard.number)
    }

    /// Those of all shards, by name.
    pub(super) async fn schedules_of_all(&self, after: String, limit: u32) -> Result<Vec<ScheduleRow>> {
        let of = json!({ "behind": after, "limit": limit });
        let schedules_there = async |shard: &Shard| {
            let told: Told<answers::Many<answers::Schedule>> = self.read(shard, "schedules", of.clone()).await?;
            told.json.list.into_iter().map(|row| row.on(shard.number)).collect::<Result<Vec<ScheduleRow>>>()
        };
        let all = try_join_all(self.shards.iter().map(schedules_there)).await?;
        let mut rows: Vec<ScheduleRow> = all.into_iter().flatten().collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        // One that is just being moved from one shard to another is on both.
        let last = rows.get(limit.saturating_sub(1) as usize).map(|row| row.name.clone());
        rows.retain(|row| last.as_ref().is_none_or(|last| row.name <= *last));
        Ok(rows)
    }

    /// A queue or a type is the same on every shard.
    pub(super) async fn pause_on_all(&self, what: Pausable, paused: bool) -> Result<Woken> {
        let parameters = parameters::pause(&what, paused);
        let pause = |shard| {
            let parameters = parameters.clone();
            self.run::<answers::Resumed>(shard, "set paused", &script::COMMAND, parameters, Blobs::default())
        };
        let told = try_join_all(self.shards.iter().map(pause)).await?;
        Ok(Woken(told.into_iter().flat_map(|told| told.json.woken).collect()))
    }

    pub(super) async fn paused_anywhere(&self) -> Result<Vec<Pausable>> {
        let paused_there = |shard| self.read::<answers::Many<String>>(shard, "paused", json!({}));
        let told = try_join_all(self.shards.iter().map(paused_there)).await?;
        let names = told.into_iter().flat_map(|told| told.json.list);
        let mut paused: Vec<Pausable> = names.filter_map(|name| answers::pausable(&name)).collect();
        paused.sort_unstable();
        paused.dedup();
        Ok(paused)
    }

    /// Each shard's newest, merged.
    pub(super) async fn list_all(&self, list: List) -> Result<Vec<WorkflowRow>> {
        let parameters = parameters::list(&list);
        let list_there = |shard| {
            let parameters = parameters.clone();
            async move {
                let told: Told<answers::Many<answers::Workflow>> = self.read(shard, "workflows", parameters).await?;
                told.json.list.into_iter().map(TryInto::try_into).collect::<Result<Vec<WorkflowRow>>>()
            }
        };
        let mut rows: Vec<WorkflowRow> =
            try_join_all(self.shards.iter().map(list_there)).await?.into_iter().flatten().collect();
        rows.sort_by_key(|row| Reverse((row.created_at, row.id)));
        rows.truncate(parameters::page_of(&list));
        Ok(rows)
    }

    pub(super) async fn workers_of_all(&self, limit: u32) -> Result<Vec<WorkerRow>> {
        let workers_there = |shard| async move {
            let told: Told<answers::Many<answers::Worker>> =
                self.read(shard, "workers", json!({ "limit": limit })).await?;
            told.json.list.into_iter().map(TryInto::try_into).collect::<Result<Vec<WorkerRow>>>()
        };
        let mut workers: Vec<WorkerRow> = Vec::new();
        for worker in try_join_all(self.shards.iter().map(workers_there)).await?.into_iter().flatten() {
            match workers.iter_mut().find(|other| other.session.id == worker.session.id) {
                Some(known) => known.leases += worker.leases,
                None => workers.push(worker),
            }
        }
        workers.sort_by_key(|worker| worker.since);
        workers.truncate(limit as usize);
        Ok(workers)
    }

    pub(super) async fn held_on_all(&self, session: SessionId, limit: u32) -> Result<Vec<HeldRow>> {
        let of = json!({ "session": session.to_string(), "limit": limit.min(HELD_PAGE) });
        let held_there = async |shard| answers::held(self.read(shard, "held", of.clone()).await?);
        let mut held: Vec<HeldRow> =
            try_join_all(self.shards.iter().map(held_there)).await?.into_iter().flatten().collect();
        held.sort_by_key(|row| row.claimed_at);
        held.truncate(limit.min(HELD_PAGE) as usize);
        Ok(held)
    }

    pub(super) async fn recount(&self) -> Result<Checkup> {
        let mut checkup = Checkup { warnings: health::what_may_be_lost(&self.link).await?, ..Checkup::default() };
        for shard in self.shards.iter() {
            let of = json!({ "shown": "" });
            let told: answers::ShardChecked =
                self.run(shard, "doctor of shard", &script::DOCTOR, of, Blobs::default()).await?.json;
            checkup.leases += told.leases;
            checkup.under_way += told.under_way;
            checkup.findings.extend(told.findings);
            if let (Some(lost), Some(at)) = (told.lost, told.lost_at) {
                let (number, at) = (shard.number, jiff::Timestamp::from_millisecond(at).unwrap_or_default());
                checkup.warnings.push(format!(
                    "the server has lost {lost} operations of shard {number} that it had acknowledged, last noticed at {at}: what they \
                     had recorded as done has run again"
                ));
            }
            for id in told.ids {
                self.recount_workflow(answers::workflow_id(&id)?, &mut checkup).await?;
            }
        }
        Ok(checkup)
    }

    async fn recount_workflow(&self, id: WorkflowId, checkup: &mut Checkup) -> Result<()> {
        let of = parameters::of_workflow(id);
        let shard = self.shards.of(id)?;
        let counted: Result<Told<answers::WorkflowChecked>> =
            self.run(shard, "doctor of workflow", &script::DOCTOR, of, Blobs::default()).await;
        match counted {
            Ok(Told { json: one, .. }) => {
                let of_its_kind = if one.lane { &mut checkup.lanes } else { &mut checkup.workflows };
                *of_its_kind += 1;
                checkup.steps += one.steps;
                checkup.jobs += one.jobs;
                checkup.findings.extend(one.findings);
            }
            Err(error) if !error.is_transient() => {
                checkup.workflows += 1;
                checkup.findings.push(format!("workflow {id} cannot be recounted: {error}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What a claim still wants once it has been granted some slices.
fn less(claim: &mut Claim, slices: &[Slice]) {
    for slice in slices {
        let jobs = slice.jobs.len() as u32;
        claim.max_leases = claim.max_leases.saturating_sub(1);
        claim.free_slots = claim.free_slots.saturating_sub(jobs);
        claim.alone = false;
        if let Some(take) = claim.takes.iter_mut().find(|take| take.job_type == slice.job_type) {
            take.budget = take.budget.saturating_sub(jobs);
        }
        let mut is_limited = slice.limited;
        for (of, left) in &mut claim.permits {
            let is_of = match of {
                Limited::Queue(name) => slice.queue.as_ref() == Some(name),
                Limited::Type(name) => slice.job_type == *name,
            };
            *left -= if is_of { jobs.min(*left) } else { 0 };
            is_limited |= is_of;
        }
        claim.max_limited = claim.max_limited.saturating_sub(if is_limited { jobs } else { 0 });
    }
}
