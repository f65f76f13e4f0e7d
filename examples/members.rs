//! Members come and go while the cluster runs: three nodes in one process, two more join, one is replaced, and the leader is
//! removed.

use std::error::Error;

use tinyraftplus::{InProcess, Member, Members, NodeBuilder, RaftNode, Status};

fn describe(dir: &tempfile::TempDir, net: &InProcess, id: u64) -> NodeBuilder {
    RaftNode::builder(id, [1_u64, 2, 3]).log_dir(dir.path()).transport(net.endpoint(id.into()))
}

fn show(what: &str, status: &Status) {
    let names: Vec<String> = status.members.iter().map(|member| member.id.to_string()).collect();
    println!("{what}: {}", names.join(" "));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (dir, net) = (tempfile::tempdir()?, InProcess::new());
    let mut nodes = Vec::new();
    for id in 1..=6 {
        let node = describe(&dir, &net, id);
        // The first three form the cluster, the others wait until they are added.
        let node = if id <= 3 { node } else { node.join() };
        nodes.push(node.open().await?);
    }
    let [first, .., fifth, sixth] = nodes.as_slice() else {
        return Err("not six nodes".into());
    };
    first.append("before").await?;
    first.transfer_leadership(1).await?;

    // Any change is one call, on any node. It returns when the change is committed, and says where that is written.
    let five = first.set_members((1..=5).map(Member::voter).collect::<Vec<_>>()).await?;
    let now = fifth.wait(|status| status.members_at == five.at).await?;
    show("two have joined", &now);

    // One goes, another one comes, unless somebody else has changed the members since they were read.
    let mut members = now.members;
    members.retain(|member| member.id != 3.into());
    members.push(Member::voter(6));
    let other = fifth.set_members(Members::new(members).based_on(now.members_at)).await?;
    let now = sixth.wait(|status| status.members_at == other.at).await?;
    show("one is replaced", &now);

    // Even the leader: another one takes over, and the one that was removed says so.
    let rest: Vec<Member> =
        now.members.into_iter().filter(|member| member.id != 1.into()).collect();
    let four = sixth.set_members(rest).await?;
    first.wait(|status| !status.is_member() && status.leader != Some(1.into())).await?;
    println!("removed: {}", first.append("late").await.expect_err("it was removed"));
    sixth.append("after").await?;
    let now = sixth.wait(|status| status.members_at == four.at && status.leader.is_some()).await?;
    println!(
        "{} members go on, led by another: {}",
        now.members.len(),
        now.leader != Some(1.into())
    );
    for node in &nodes {
        node.close().await?;
    }
    Ok(())
}
