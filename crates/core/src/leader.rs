//! Leading: proposals, replication, commit (Raft sections 5.3 and 5.4).

use crate::change::Changing;
use crate::core::Part;
use crate::electorate::Active;
use crate::ids::Peer;
use crate::lease::Tenure;
use crate::marks::Marks;
use crate::planted::{self, Bug};
use crate::progress::{PeerStatus, Progress, Question, State};
use crate::reads::Reads;
use crate::{
    Core, Entry, EntryBody, EntryId, Event, Load, Loaded, Member, Membership, MessageBody, NodeId,
    Proposal, Refusal, Resolution, Seq, Term, Terms, Ticket, Time, Transmit,
};
use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};
use core::time::Duration;

/// What a leader remembers for the length of its term.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    pub(crate) reads: Reads,
    pub(crate) changing: Changing,
    /// Counts requests for confirmation.
    pub(crate) round: u64,
    pub(crate) tenure: Tenure,
    marks: Marks,
    heartbeat_at: Time,
    /// When followers are told what is committed, if they don't hear it before.
    notice_at: Time,
    quorum_at: Time,
}

impl Leader {
    pub(crate) fn wake_at(&self) -> Time {
        self.heartbeat_at.min(self.notice_at).min(self.quorum_at).min(self.changing.wake_at())
    }

    pub(crate) fn status(&self) -> impl Iterator<Item = (NodeId, PeerStatus)> {
        let status = |peer: &Progress| PeerStatus {
            matched: peer.matched,
            last_contact: peer.contact,
            priority: peer.priority,
            needs_snapshot: peer.state == State::Snapshot,
        };
        self.peers.iter().map(move |(&id, peer)| (id, status(peer)))
    }

    /// Whether that peer was heard from lately.
    pub(crate) fn hears(&self, id: NodeId, now: Time, patience: Duration) -> bool {
        let contact = self.peers.get(&id).and_then(|peer| peer.contact);
        contact.is_some_and(|at| now.since(at) <= patience)
    }

    /// Whoever waits for an answer, and whether something may have happened already.
    pub(crate) fn into_waiting(self) -> impl Iterator<Item = (Ticket, bool)> {
        let reads = self.reads.into_tickets().map(|ticket| (ticket, false));
        reads.chain(self.changing.into_ticket())
    }
}

impl<P: AsRef<[u8]>> Core<P> {
    /// Takes office: an entry of the new term goes first, so that what came before can be committed.
    pub(crate) fn lead(&mut self) {
        let start = self.terms.end();
        if start == Seq::MAX {
            // A full log has no room for the entry that a term begins with.
            self.step_down();
            return;
        }
        let now = self.now;
        self.preference.begin_term();
        self.leader = Some(self.me());
        self.part = Part::Leader(Box::new(Leader {
            peers: BTreeMap::new(),
            reads: Reads::default(),
            changing: Changing::default(),
            round: 0,
            tenure: Tenure::default(),
            marks: Marks::new(start),
            heartbeat_at: now + self.options.heartbeat_interval,
            notice_at: Time::NEVER,
            quorum_at: now + self.options.election_timeout,
        }));
        self.out.events.push(Event::Changed);
        self.know_peers(true);
        let id = EntryId { term: self.hard_state.term, seq: start };
        self.append_own(vec![Entry { id, ends_batch: true, body: EntryBody::Noop }]);
    }

    /// Keeps track of all others that the configuration in force names, and of those that it no longer names
    /// until they have been told. Those that come are to be introduced, or `are_members` that know the cluster; one that
    /// does not is introduced when it does not answer.
    pub(crate) fn know_peers(&mut self, are_members: bool) {
        let (now, end) = (self.now, self.terms.end());
        // Where this log begins says nothing of another's: it may have been compacted.
        let first = self.configuration().map_or(Seq::ZERO, |it| it.first());
        let others = self.others();
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        for (&id, peer) in &mut leader.peers {
            let stays = others.contains(&Peer { id, identity: peer.identity });
            peer.leaving = if stays { None } else { peer.leaving.or(Some(now)) };
        }
        for Peer { id, identity } in others {
            if leader.peers.get(&id).is_none_or(|peer| peer.identity != identity) {
                let mut peer = Progress::new(identity, first, end, now);
                // It has a whole election timeout to answer before its silence counts.
                peer.contact = Some(now);
                peer.introduced = are_members.then_some(now);
                leader.peers.insert(id, peer);
            }
        }
    }

    /// Adds one batch to the log and begins to write it.
    pub(crate) fn append_own(&mut self, entries: Vec<Entry<P>>) {
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        let start = self.terms.end();
        let bytes = entries.iter().map(|entry| Load::ENTRY_COST + entry.body.bytes()).sum();
        self.terms.append(self.hard_state.term, entries.len() as u64);
        let end = self.terms.end();
        leader.marks.push(end, bytes);
        let job = self.job();
        let start = job.append.first().map_or(start, |entry| entry.id.seq);
        job.append.extend(entries);
        self.jobs.note(None, start, end);
    }

    pub(crate) fn propose(&mut self, proposals: Vec<Proposal<P>>) {
        for Proposal { ticket, payloads } in proposals {
            let resolution = match self.refusal(&payloads) {
                Some(refusal) => Resolution::Refused(refusal),
                None => self.accept(ticket, payloads),
            };
            self.out.resolve.push((ticket, resolution));
        }
    }

    fn refusal(&self, payloads: &[P]) -> Option<Refusal> {
        let Part::Leader(leader) = &self.part else {
            let busy = self.stalled.is_some();
            return Some(if busy {
                Refusal::Busy
            } else {
                Refusal::NotLeader { leader: self.leader() }
            });
        };
        if let Some(to) = self.transferring() {
            // Its successor would never catch up with a log that grows.
            Some(Refusal::Transferring { to })
        } else if payloads.is_empty() {
            Some(Refusal::Empty)
        } else if self.terms.end().checked_add(payloads.len() as u64).is_none() {
            Some(Refusal::LogFull)
        } else if leader.marks.bytes_after(self.committed) >= self.options.uncommitted_bytes_max {
            Some(Refusal::Busy)
        } else {
            None
        }
    }

    fn accept(&mut self, ticket: Ticket, payloads: Vec<P>) -> Resolution {
        let term = self.hard_state.term;
        let mut seq = self.terms.end();
        let first = EntryId { term, seq };
        let mut last = first;
        let count = payloads.len();
        let mut entries = Vec::with_capacity(count);
        let too_large =
            (count as u64).saturating_mul(Load::ENTRY_COST) > self.options.append_bytes_max;
        let split = |at: usize| planted::is(Bug::SplitBatch) && too_large && at + 1 == count / 2;
        for (at, payload) in payloads.into_iter().enumerate() {
            last = EntryId { term, seq };
            entries.push(Entry {
                id: last,
                ends_batch: at + 1 == count || split(at),
                body: EntryBody::Payload(payload),
            });
            seq = seq.after();
        }
        self.append_own(entries);
        self.pending.insert((last.seq, term), (ticket, first));
        Resolution::Accepted { first, last }
    }

    /// Whether it was worth anything.
    pub(crate) fn on_accepted(&mut self, from: Peer, term: Term, matched: Seq, round: u64) -> bool {
        let (now, start, end) = (self.now, self.terms.start(), self.terms.end());
        let Some((peer, newest)) = self.peer(from, term) else {
            return false;
        };
        if matched > end || round > newest {
            self.out
                .events
                .push(Event::Malformed { from: from.id, what: "acknowledges what was never sent" });
            return false;
        }
        (peer.contact, peer.heard) = (Some(now), true);
        peer.round = peer.round.max(round);
        peer.accepted(matched, start, now);
        true
    }

    pub(crate) fn on_rejected(
        &mut self,
        from: Peer,
        term: Term,
        prev: Option<EntryId>,
        hint: Option<EntryId>,
        round: u64,
    ) {
        let now = self.now;
        let Some(prev) = prev else {
            // An append of an older term was refused, and this node leads again.
            return;
        };
        // The newest entry that both may have; the batch that holds it begins the next try.
        let meet = hint.and_then(|hint| self.terms.newest_within(hint.seq, hint.term));
        let first = self.terms.start();
        let end = self.terms.end();
        let Some((peer, newest)) = self.peer(from, term) else {
            return;
        };
        if round > newest {
            self.out
                .events
                .push(Event::Malformed { from: from.id, what: "rejects what was never sent" });
            return;
        }
        (peer.contact, peer.heard) = (Some(now), true);
        peer.round = peer.round.max(round);
        if peer.rejection_counts(prev.seq.after()) {
            // Strictly before what was just rejected, or the same probe would go back and forth. Before the start lies
            // what this log no longer has.
            let next = meet.map_or(first, |meet| meet.seq.after()).min(prev.seq).min(end);
            peer.probe(next);
        }
    }

    pub(crate) fn loaded(&mut self, loaded: Loaded) {
        let Loaded { to, number, range, bytes } = loaded;
        let (now, log_end, first) = (self.now, self.terms.end(), self.terms.start());
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        let Some(peer) = leader.peers.get_mut(&to) else {
            return;
        };
        if peer.question != Question::Open(number) {
            return;
        }
        match range {
            // An acknowledgement overtook the answer: if there is more to send, it is asked for again.
            Some((_, end)) if end <= peer.next => peer.question = Question::None,
            Some((start, end)) if first <= start && start <= peer.next && end <= log_end => {
                peer.question = Question::None;
                peer.sent(start, end, bytes, now);
                self.send_entries(to, start, end);
            }
            Some(_) | None => peer.unreadable(now),
        }
    }

    /// The progress of the log that speaks, and the newest round, if this node leads that term.
    fn peer(&mut self, from: Peer, term: Term) -> Option<(&mut Progress, u64)> {
        match &mut self.part {
            Part::Leader(leader)
                if term == self.hard_state.term || planted::is(Bug::StaleReply) =>
            {
                let round = leader.round;
                let peer = leader.peers.get_mut(&from.id);
                let speaks = |peer: &&mut Progress| {
                    peer.identity == from.identity || planted::is(Bug::TrustWiped)
                };
                peer.filter(speaks).map(|peer| (peer, round))
            }
            Part::Leader(_) | Part::Follower | Part::Candidate(_) => None,
        }
    }

    /// Steps down when so many peers are silent that they could have elected another leader.
    pub(crate) fn check_quorum(&mut self) {
        let (now, timeout, me) = (self.now, self.options.election_timeout, self.me());
        let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
            return;
        };
        if now < leader.quorum_at {
            return;
        }
        leader.quorum_at = now + timeout;
        let heard = |member: &Member| {
            let contact = progress_of(&leader.peers, member).and_then(|peer| peer.contact);
            let lately = contact.is_some_and(|contact| now.since(contact) <= timeout);
            member.is(me.id, me.identity) || lately
        };
        if !active.electorate().confirms(heard) {
            self.step_down();
        }
    }

    /// What a leader does at the end of every step: commit what a quorum has, confirm reads, fill the pipes.
    pub(crate) fn lead_on(&mut self) {
        if !matches!(self.part, Part::Leader(_)) {
            return;
        }
        self.commit();
        self.change_on();
        self.confirm_reads();
        self.retry_overdue();
        self.fill_all();
        self.prefer();
        self.hand_over();
        self.speak();
        self.retire();
    }

    /// Commits up to where a quorum agrees, but only if that is an entry of this term: an older one can
    /// still be replaced although a quorum holds it (Raft section 5.4.2, figure 8).
    fn commit(&mut self) {
        let (me, durable) = (self.me(), self.jobs.durable());
        let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
            return;
        };
        let committed = self.committed;
        let counts_as = counts_as(active.configuration().now(), me.id);
        // Most answers vouch for nothing new, or are too few yet: to find that out is less than to sort them.
        if durable <= committed && leader.peers.values().all(|peer| peer.matched <= committed) {
            return;
        }
        let end = |member: &Member| {
            if member.is(me.id, me.identity) || counts_as == Some(member.id) {
                durable
            } else {
                progress_of(&leader.peers, member).map_or(Seq::ZERO, |peer| peer.matched)
            }
        };
        if !active.electorate().may_commit(|member| end(member) > committed) {
            return;
        }
        let agreed = active.electorate().agreed(end);
        let of_this_term =
            self.terms.entry_before(agreed).is_some_and(|id| id.term == self.hard_state.term);
        if agreed > self.committed && (of_this_term || planted::is(Bug::CommitOldTerm)) {
            self.committed = agreed;
            leader.marks.forget(agreed);
        }
    }

    fn retry_overdue(&mut self) {
        let (now, patience) = (self.now, self.options.election_timeout / 2);
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        for peer in leader.peers.values_mut() {
            // To a peer that is silent altogether nothing is repeated but heartbeats.
            let speaks = |contact| now.since(contact) < patience;
            if peer.overdue(now, patience) && peer.contact.is_some_and(speaks) {
                peer.retry(now);
            }
        }
    }

    /// Sends all peers what they lack.
    fn fill_all(&mut self) {
        let (end, limit) = (self.terms.end(), self.options.window_bytes);
        let Part::Leader(leader) = &self.part else {
            return;
        };
        // Few lack anything in most steps, so this looks at each but searches only for those.
        let lacking = leader.peers.iter().filter(|(_, peer)| peer.wants(end, limit));
        let lacking: Vec<NodeId> = lacking.map(|(&id, _)| id).collect();
        for to in lacking {
            self.fill(to);
        }
    }

    /// Sends a peer what it lacks, as far as its window allows.
    fn fill(&mut self, to: NodeId) {
        loop {
            let (now, first, end) = (self.now, self.terms.start(), self.terms.end());
            let Part::Leader(leader) = &mut self.part else {
                return;
            };
            let Some(peer) = leader.peers.get_mut(&to) else {
                return;
            };
            if !peer.wants(end, self.options.window_bytes) {
                return;
            }
            let bytes_max = self.options.append_bytes_max;
            let start = leader.marks.snap(peer.next).max(peer.matched);
            if start < first {
                peer.fall_behind();
                self.out.behind.push(to);
                return;
            }
            if let Some((end, bytes)) = leader.marks.take(start, bytes_max) {
                peer.sent(start, end, bytes, now);
                self.send_entries(to, start, end);
            } else {
                self.loads += 1;
                peer.question = Question::Open(self.loads);
                let end = if start < leader.marks.start() { leader.marks.start() } else { end };
                let load = Load { to, number: self.loads, at_most: start, end, bytes_max };
                self.out.load.push(load);
                return;
            }
        }
    }

    fn send_entries(&mut self, to: NodeId, start: Seq, end: Seq) {
        let span = self.terms.span(start, end);
        let prev = self.terms.entry_before(start);
        if let Some(message) = self.append_message(to, prev, end) {
            self.out.send.push(Transmit::Entries { to, message, span });
        }
    }

    /// Heartbeats, and word of new commits to peers that were sent nothing since.
    fn speak(&mut self) {
        let (now, interval, committed) =
            (self.now, self.options.heartbeat_interval, self.committed);
        let changed = self.active.as_ref().and_then(Active::at);
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        let beat = now >= leader.heartbeat_at;
        if beat {
            leader.heartbeat_at = now + interval;
        }
        let lacks_news = |peer: &Progress| {
            peer.committed_told < committed.min(peer.matched) && peer.state == State::Stream
        };
        if !leader.peers.values().any(lacks_news) {
            leader.notice_at = Time::NEVER;
        } else if leader.notice_at == Time::NEVER {
            leader.notice_at = now + self.options.commit_notice_delay;
        }
        let is_time = now >= leader.notice_at;
        let due = |peer: &Progress| {
            // That members have changed is told at once: whoever is removed by that waits for it to go.
            let urgent = changed.is_some_and(|at| peer.committed_told <= at && at < committed);
            beat || lacks_news(peer) && (is_time || urgent)
        };
        let to: Vec<(NodeId, Seq)> = leader
            .peers
            .iter()
            .filter(|(_, peer)| due(peer))
            .map(|(&id, peer)| (id, peer.matched))
            .collect();
        if is_time {
            leader.notice_at = Time::NEVER;
        }
        if beat && self.options.lease.is_some() {
            self.next_round();
        }
        for (to, matched) in to {
            self.send_heartbeat(to, matched);
        }
    }

    /// An append without entries that follows what the peer is known to hold, so that it never misses. Of that the log may
    /// have lost all: then it finds out whether the peer holds what comes before the start.
    pub(crate) fn send_heartbeat(&mut self, to: NodeId, matched: Seq) {
        let matched = matched.max(self.terms.start());
        let prev = self.terms.entry_before(matched);
        if let Some(message) = self.append_message(to, prev, matched) {
            self.out.send.push(Transmit::Message { to, message });
        }
    }

    /// An append that proves the log up to `end`, and so can't tell of commits beyond it.
    fn append_message(
        &mut self,
        to: NodeId,
        prev: Option<EntryId>,
        end: Seq,
    ) -> Option<crate::Message<P>> {
        let committed = self.committed;
        let Part::Leader(leader) = &mut self.part else {
            return None;
        };
        let round = leader.round;
        let peer = leader.peers.get_mut(&to)?;
        peer.committed_told = peer.committed_told.max(committed.min(end));
        let to = Peer { id: to, identity: peer.identity };
        let body = MessageBody::Append { prev, entries: Vec::new(), committed, round };
        Some(self.message(to, body))
    }
}

/// The voter in whose place a leader counts itself that is none: nobody's, unless that bug is planted.
fn counts_as(now: &Membership, me: NodeId) -> Option<NodeId> {
    let is_removed =
        || planted::is(Bug::CountRemovedLeader) && now.member(me).is_none_or(|it| !it.votes);
    now.voters().next().filter(|_| is_removed()).map(|member| member.id)
}

/// What is known of the log that speaks for that member.
pub(crate) fn progress_of<'a>(
    peers: &'a BTreeMap<NodeId, Progress>,
    member: &Member,
) -> Option<&'a Progress> {
    peers.get(&member.id).filter(|peer| Some(peer.identity) == member.identity)
}

/// Whether an entry of that term is committed: before, its leader does not know what its predecessors committed.
pub(crate) fn has_committed(terms: &Terms, committed: Seq, term: Term) -> bool {
    terms.entry_before(committed).is_some_and(|id| id.term == term)
}
