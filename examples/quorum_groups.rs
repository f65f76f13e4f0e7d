//! What two clouds survive, and what a witness at a third site adds: the report of the quorum rules says it, then each
//! node and each site is lost in turn, and what happens must be what the report said.

use std::error::Error;
use std::time::Duration;

use tinyraftplus::{
    CustomRules, Group, InProcess, LogOptions, MemLog, NodeId, QuorumRule, Quorums, RaftNode, Role,
    Rules, Tolerance, Voter,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What goes on happens within this, on a slow machine too.
const PATIENCE: Duration = Duration::from_mins(1);
/// For so long nothing may happen of what stops: a few election timeouts.
const SILENCE: Duration = Duration::from_secs(1);

struct Cluster {
    net: InProcess,
    voters: Vec<Voter>,
    nodes: Vec<RaftNode>,
    report: Tolerance,
}

impl Cluster {
    /// A node for each number and site.
    async fn open(sites: &[(u64, &str)], rule: QuorumRule) -> Outcome<Self> {
        let voter = |&(number, site): &(u64, &str)| {
            Ok(Voter { id: NodeId::from(number), group: Some(Group::new(site)?) })
        };
        let voters = sites.iter().map(voter).collect::<Outcome<Vec<Voter>>>()?;
        let quorums =
            Quorums::compile(&voters, &Rules::same(rule.clone()), &CustomRules::default())?;
        quorums.check()?;
        let report = quorums.tolerance();
        println!("{rule}\n{report}");

        let (net, mut nodes) = (InProcess::new(), Vec::new());
        for voter in &voters {
            let mut node = RaftNode::builder(voter.id, voters.iter().map(|voter| voter.id))
                .log(|| MemLog::new(LogOptions::default()))
                .transport(net.endpoint(voter.id))
                .rule(rule.clone())
                .heartbeat_interval(Duration::from_millis(20))
                .election_timeout(Duration::from_millis(150))
                .election_jitter(Duration::from_millis(150))
                .append_timeout(PATIENCE);
            if let Some(site) = voter.group {
                node = node.group(site);
            }
            nodes.push(node.open().await?);
        }
        Ok(Self { net, voters, nodes, report })
    }

    fn node(&self, id: NodeId) -> Outcome<&RaftNode> {
        Ok(self.nodes.iter().find(|node| node.id() == id).ok_or("no such node")?)
    }

    /// Makes that node the leader.
    async fn lead(&self, id: NodeId) -> Outcome {
        let node = self.node(id)?;
        while node.status().role != Role::Leader {
            let leader = node.await_committed_leader().await?;
            // It may have lost its leadership by now, or be too busy; then it is asked again.
            let _ = self.node(leader)?.transfer_leadership(id).await;
        }
        Ok(())
    }

    /// Nothing reaches these nodes any more, nor leaves them.
    fn cut_off(&self, lost: &[NodeId]) {
        for &id in lost {
            for voter in self.voters.iter().filter(|voter| voter.id != id) {
                self.net.cut(id, voter.id);
            }
        }
    }

    /// Loses these, the leader among them, and looks whether the others elect another one and commit.
    async fn lose(&self, what: &str, lost: &[NodeId], is_fatal: [bool; 2]) -> Outcome {
        let first = *lost.first().ok_or("nobody to lose")?;
        self.lead(first).await?;
        let term = self.node(first)?.status().term;
        self.cut_off(lost);
        let rest = self.nodes.iter().filter(|node| !lost.contains(&node.id()));
        let rest: Vec<&RaftNode> = rest.collect();
        let witness = *rest.first().ok_or("nobody is left")?;

        let [elections_stop, commits_stop] = is_fatal;
        let another = witness.wait(|status| {
            status.term > term && status.leader.is_some_and(|leader| !lost.contains(&leader))
        });
        let limit = |stops| if stops { SILENCE } else { PATIENCE };
        let elects = tokio::time::timeout(limit(elections_stop), another).await.is_ok();
        // Who has no leader commits nothing, whatever the rule for commits.
        let commits_stop = commits_stop || elections_stop;
        let append = witness.append(format!("without {what}"));
        let commits = matches!(tokio::time::timeout(limit(commits_stop), append).await, Ok(Ok(_)));

        let word = |goes_on| if goes_on { "go on" } else { "stop" };
        println!("without {what}: elections {}, commits {}", word(elects), word(commits));
        if (elects, commits) != (!elections_stop, !commits_stop) {
            return Err(format!("not what was predicted for the loss of {what}").into());
        }
        self.net.heal_all();
        witness.append(format!("{what} is back")).await?;
        Ok(())
    }

    async fn lose_each(&self) -> Outcome {
        let (elections, commits) = (&self.report.elections, &self.report.commits);
        for voter in &self.voters {
            let is_fatal =
                [elections, commits].map(|survives| survives.fatal_voters.contains(&voter.id));
            self.lose(&format!("node {}", voter.id), &[voter.id], is_fatal).await?;
        }
        let mut sites: Vec<Group> = self.voters.iter().filter_map(|voter| voter.group).collect();
        sites.dedup();
        for site in sites {
            let there = self.voters.iter().filter(|voter| voter.group == Some(site));
            let lost: Vec<NodeId> = there.map(|voter| voter.id).collect();
            let is_fatal = [elections, commits].map(|it| it.fatal_groups.contains(&site));
            self.lose(&format!("site {site}"), &lost, is_fatal).await?;
        }
        for node in &self.nodes {
            node.close().await?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let two = [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "b")];
    Cluster::open(&two, QuorumRule::MajorityOfEachGroup).await?.lose_each().await?;
    println!();
    let three: Vec<_> = two.into_iter().chain([(7, "witness")]).collect();
    Cluster::open(&three, QuorumRule::MajorityOfGroups).await?.lose_each().await
}
