//! Elections alone, for users of `TinyRaft`: three nodes, of which one leads; nothing is replicated, and only term and vote are
//! stored. A program asks `status()`, waits for what it needs, or listens to changes.

use std::error::Error;

use tinyraftplus::{Event, InProcess, Next, NodeBuilder, RaftNode, Role, Status};

/// Of the nodes that are there, the one with the highest priority leads, sooner or later.
fn describe(dir: &tempfile::TempDir, net: &InProcess, id: u32) -> NodeBuilder {
    let builder = RaftNode::builder(id, [1, 2, 3]).priority(id);
    builder.log_dir(dir.path()).transport(net.endpoint(u64::from(id).into()))
}

/// Waits until node `id` leads and all of these know it.
async fn led_by(nodes: &[&RaftNode], id: u64) -> Result<Status, Box<dyn Error>> {
    let mut leader = Err("no nodes".into());
    for node in nodes {
        let status = node.wait(|status| status.leader == Some(id.into())).await?;
        if status.role == Role::Leader {
            leader = Ok(status);
        }
    }
    leader
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (dir, net) = (tempfile::tempdir()?, InProcess::new());
    let first = describe(&dir, &net, 1).open().await?;
    let second = describe(&dir, &net, 2).open().await?;
    let third = describe(&dir, &net, 3);
    // Listens from the start on, as `on('change', ..)` does.
    let mut changes = third.events();
    let third = third.open().await?;
    let before = led_by(&[&first, &second, &third], 3).await?;
    third.wait(|status| status.followers.len() == 2).await?;
    println!("node 3 leads");

    // It goes: another one is elected, in a later term.
    third.close().await?;
    let (mut led, mut followers) = (false, 0);
    while let Some(next) = changes.next().await {
        if let Next::Event(Event::Change { role, followers: all, .. }) = next {
            led |= role == Role::Leader;
            followers = followers.max(all.len());
        }
    }
    println!("it was told that it led: {led}, with {followers} followers");
    let now = led_by(&[&first, &second], 2).await?;
    println!("node 2 leads, in a later term: {}", now.term > before.term);

    // It comes back, with the same log. Whoever leads is told to sit still (`stop()`), and to go on.
    let third = describe(&dir, &net, 3).open().await?;
    led_by(&[&first, &second, &third], 3).await?;
    third.pause().await?;
    led_by(&[&first, &second, &third], 2).await?;
    println!("node 3 sits still, and node 2 leads");
    third.resume().await?;
    let last = led_by(&[&first, &second, &third], 3).await?;
    println!("node 3 leads again");
    for node in [&first, &second, &third] {
        node.close().await?;
    }
    let is_right = led && followers == 2 && now.term > before.term && last.term > now.term;
    if is_right { Ok(()) } else { Err("not what was elected".into()) }
}
