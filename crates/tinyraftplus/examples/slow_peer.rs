//! What a peer that is slow, stopped or gone costs the others: `cargo run --release -p tinyraftplus --example slow_peer`.
//!
//! Three nodes over encrypted TCP, logs in memory, so that nothing but the network and the nodes is measured. Clients append on the leader,
//! each one after its last append has come back, while the third node is well, runs a tenth of the time, is stopped (its process takes nothing any
//! more, its kernel does until it is full), or is gone. Two are a quorum, so each append can go on without the third.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measuring program")]
#![expect(
    clippy::disallowed_methods,
    reason = "a node that runs a tenth of the time has to be timed"
)]

use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tinyraftplus::{Key, LogOptions, MemLog, NodeId, RaftNode, TcpStats, TcpTransport};

const CLIENTS: usize = 32;
const PAYLOAD_BYTES: usize = 1024;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(2);
/// Whatever hangs: then the example has failed.
const DEADLINE: Duration = Duration::from_secs(150);
const SLICE: Duration = Duration::from_millis(5);

type Failure = Box<dyn Error + Send + Sync>;

/// What is done to the third node.
#[derive(Clone, Copy, Debug)]
enum Third {
    Well,
    Slow,
    Stopped,
    Gone,
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let ended = tokio::time::timeout(DEADLINE, run()).await;
        ended.map_err(|_| "the cluster did not answer in time")?
    })
}

async fn run() -> Result<(), Failure> {
    println!(
        "{CLIENTS} clients, {PAYLOAD_BYTES} bytes an append, {TIME:?} a row, the third node is .."
    );
    println!("            appends/s   p50 us   p99 us   max ms   waiting KiB   dropped   term");
    let key = Key::generate()?;
    for round in 0..ROUNDS {
        for third in [Third::Well, Third::Slow, Third::Stopped, Third::Gone] {
            let cluster = Cluster::open(&key).await?;
            cluster.measure(round, third).await?;
            cluster.close().await?;
        }
    }
    Ok(())
}

struct Cluster {
    nodes: [RaftNode; 2],
    transport: TcpTransport,
    third: Other,
}

/// The third node, on a thread of its own: blocked, it is as a stopped process.
struct Other {
    orders: mpsc::Sender<Third>,
    thread: thread::JoinHandle<()>,
}

async fn bind(key: &Key) -> Result<TcpTransport, Failure> {
    Ok(TcpTransport::bind("127.0.0.1:0", key, &[]).await?)
}

async fn open(id: u64, transport: TcpTransport) -> Result<RaftNode, Failure> {
    let log = || MemLog::new(LogOptions::default());
    Ok(RaftNode::builder(id, 1..=3_u64).log(log).transport(transport).open().await?)
}

impl Cluster {
    async fn open(key: &Key) -> Result<Self, Failure> {
        let (third, address, know) = Other::start(key.clone())?;
        let (one, two) = (bind(key).await?, bind(key).await?);
        let addresses = [one.local_addr(), two.local_addr(), address];
        for transport in [&one, &two] {
            for (id, address) in (1_u64..).zip(addresses) {
                transport.set_peer(NodeId::from(id), address.to_string());
            }
        }
        know.send([addresses[0], addresses[1]])?;
        let transport = one.clone();
        let nodes = [open(1, one).await?, open(2, two).await?];
        nodes[0].await_committed_leader().await?;
        // The first one leads, whoever was elected.
        while nodes[0].status().leader != Some(nodes[0].id()) {
            let _ = nodes[1].transfer_leadership(1).await;
            nodes[0].await_committed_leader().await?;
        }
        Ok(Self { nodes, transport, third })
    }

    async fn measure(&self, round: usize, third: Third) -> Result<(), Failure> {
        let leader = &self.nodes[0];
        for _ in 0..1000 {
            leader.append(vec![7; PAYLOAD_BYTES]).await?;
        }
        self.third.orders.send(third)?;
        // What it does to them takes hold.
        self.load(TIME / 4).await?;
        let before = self.transport.stats();
        let (mut latencies, waiting) = self.load(TIME).await?;
        let after = self.transport.stats();
        latencies.sort_unstable();
        let at = |percent: usize| {
            let place = (latencies.len() * percent / 100).min(latencies.len() - 1);
            latencies.get(place).copied().unwrap_or_default()
        };
        println!(
            "{:<8} {round} {:>10} {:>8} {:>8} {:>8.1} {:>13} {:>9} {:>6}",
            format!("{third:?}").to_lowercase(),
            latencies.len() as u128 * 1_000_000 / TIME.as_micros(),
            at(50).as_micros(),
            at(99).as_micros(),
            at(100).as_secs_f64() * 1e3,
            waiting >> 10,
            after.dropped - before.dropped,
            leader.status().term.get(),
        );
        Ok(())
    }

    /// How long each append took, and the most that waited to be sent.
    async fn load(&self, time: Duration) -> Result<(Vec<Duration>, u64), Failure> {
        let until = Instant::now() + time;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let leader = self.nodes[0].clone();
            clients.push(tokio::spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    leader.append(vec![7; PAYLOAD_BYTES]).await?;
                    latencies.push(began.elapsed());
                }
                Ok::<_, Failure>(latencies)
            }));
        }
        let mut most = 0;
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        while Instant::now() < until {
            beat.tick().await;
            let TcpStats { waiting, .. } = self.transport.stats();
            most = most.max(waiting);
        }
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.await??);
        }
        Ok((latencies, most))
    }

    async fn close(self) -> Result<(), Failure> {
        for node in &self.nodes {
            node.close().await?;
        }
        drop(self.third.orders);
        self.third.thread.join().map_err(|_| "the third node panicked")?;
        Ok(())
    }
}

type Addresses = [std::net::SocketAddr; 2];

impl Other {
    fn start(key: Key) -> Result<(Self, std::net::SocketAddr, mpsc::Sender<Addresses>), Failure> {
        let (orders, ordered) = mpsc::channel();
        let (know, known) = mpsc::channel::<Addresses>();
        let (bound, is_bound) = mpsc::channel();
        let thread = thread::spawn(move || {
            let ended = Self::live(&key, &bound, &known, &ordered);
            if let Err(error) = ended {
                eprintln!("the third node: {error}");
            }
        });
        let address = is_bound.recv()?;
        Ok((Self { orders, thread }, address, know))
    }

    /// The whole life of the third node.
    fn live(
        key: &Key,
        bound: &mpsc::Sender<std::net::SocketAddr>,
        known: &mpsc::Receiver<Addresses>,
        ordered: &mpsc::Receiver<Third>,
    ) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let transport = runtime.block_on(bind(key))?;
        bound.send(transport.local_addr())?;
        for (id, address) in (1_u64..).zip(known.recv()?) {
            transport.set_peer(NodeId::from(id), address.to_string());
        }
        let node = runtime.block_on(open(3, transport))?;
        let runs = |time| runtime.block_on(async { tokio::time::sleep(time).await });
        let mut now = Third::Well;
        loop {
            // Between these it is blocked, for as long as it takes to get an order.
            let blocked = match now {
                Third::Well => {
                    runs(SLICE);
                    Duration::ZERO
                }
                Third::Slow => {
                    runs(SLICE);
                    SLICE * 9
                }
                Third::Stopped => DEADLINE,
                Third::Gone => {
                    runtime.block_on(node.kill());
                    DEADLINE
                }
            };
            match ordered.recv_timeout(blocked) {
                Ok(next) => now = next,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}
