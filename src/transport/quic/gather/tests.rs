use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use quinn::TokioRuntime;

use super::*;

/// What was sent in one call: where to, and the length of each datagram.
type Call = (SocketAddr, Vec<usize>);

/// A socket that writes down what it is given, or has no room.
#[derive(Debug)]
struct Paper {
    calls: Mutex<Vec<Call>>,
    is_full: AtomicBool,
    has_room: Notify,
    segments_max: AtomicUsize,
}

#[derive(Debug)]
struct Room(Arc<Paper>);

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        if !self.0.is_full.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let (paper, waker) = (self.0.clone(), context.waker().clone());
        tokio::spawn(async move {
            paper.has_room.notified().await;
            waker.wake();
        });
        Poll::Pending
    }
}

impl AsyncUdpSocket for Paper {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room(self))
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let datagrams = transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX)).map(<[u8]>::len);
        self.calls.lock().unwrap().push((transmit.destination, datagrams.collect()));
        Ok(())
    }

    fn poll_recv(&self, _: &mut Context, _: &mut [io::IoSliceMut<'_>], _: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(0))
    }

    fn max_transmit_segments(&self) -> usize {
        self.segments_max.load(Ordering::Relaxed)
    }
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn socket(segments_max: usize) -> (Arc<Paper>, Arc<GatheringSocket>) {
    let segments_max = AtomicUsize::new(segments_max);
    let paper =
        Paper { calls: Mutex::default(), is_full: AtomicBool::new(false), has_room: Notify::new(), segments_max };
    let paper = Arc::new(paper);
    (paper.clone(), GatheringSocket::new(paper, &TokioRuntime))
}

fn send(socket: &GatheringSocket, port: u16, bytes: usize) -> io::Result<()> {
    let contents = vec![0; bytes];
    let destination = address(port);
    socket.try_send(&Transmit { destination, ecn: None, contents: &contents, segment_size: None, src_ip: None })
}

impl Paper {
    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

/// Lets every task that is ready run.
async fn turn() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_sent_in_a_turn_leaves_together_by_address_and_length() {
    let (paper, socket) = socket(64);
    for (port, bytes) in [(1, 50), (2, 50), (1, 50), (1, 60), (1, 50)] {
        send(&socket, port, bytes).unwrap();
    }
    assert_eq!(paper.take(), [], "the turn is not over");
    turn().await;
    assert_eq!(paper.take(), [(address(1), vec![50; 3]), (address(2), vec![50]), (address(1), vec![60])]);
    send(&socket, 1, 50).unwrap();
    turn().await;
    assert_eq!(paper.take(), [(address(1), vec![50])], "the next turn, too");
}

#[tokio::test]
async fn a_full_group_leaves_at_once() {
    let (paper, socket) = socket(64);
    for _ in 0..GROUP_DATAGRAMS_MAX + 1 {
        send(&socket, 1, 50).unwrap();
    }
    assert_eq!(paper.take(), [(address(1), vec![50; GROUP_DATAGRAMS_MAX])]);
    turn().await;
    assert_eq!(paper.take(), [(address(1), vec![50])]);
}

#[tokio::test]
async fn what_cannot_wait_leaves_behind_what_did() {
    let (paper, socket) = socket(64);
    send(&socket, 1, 50).unwrap();
    send(&socket, 1, DATAGRAM_BYTES_MAX + 1).unwrap();
    assert_eq!(paper.take(), [(address(1), vec![50]), (address(1), vec![DATAGRAM_BYTES_MAX + 1])]);
    send(&socket, 1, 50).unwrap();
    let several =
        Transmit { destination: address(1), ecn: None, contents: &[0; 250], segment_size: Some(100), src_ip: None };
    socket.try_send(&several).unwrap();
    assert_eq!(paper.take(), [(address(1), vec![50]), (address(1), vec![100, 100, 50])]);
}

#[tokio::test]
async fn nothing_waits_where_nothing_can_leave_together() {
    let (paper, socket) = socket(1);
    send(&socket, 1, 50).unwrap();
    assert_eq!(paper.take(), [(address(1), vec![50])]);
}

#[tokio::test]
async fn what_waits_is_bounded_and_nothing_of_it_is_lost_while_there_is_no_room() {
    let (paper, socket) = socket(64);
    paper.is_full.store(true, Ordering::Relaxed);
    for port in 1..=GROUPS_MAX as u16 {
        send(&socket, port, 50).unwrap();
    }
    turn().await;
    assert_eq!(send(&socket, 9_999, 50).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(paper.take(), []);
    paper.is_full.store(false, Ordering::Relaxed);
    paper.has_room.notify_waiters();
    turn().await;
    assert_eq!(paper.take(), (1..=GROUPS_MAX as u16).map(|port| (address(port), vec![50])).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_waits_when_nobody_needs_the_socket_any_more_is_sent() {
    let (paper, socket) = socket(64);
    send(&socket, 1, 50).unwrap();
    drop(socket);
    assert_eq!(paper.take(), [(address(1), vec![50])]);
}

#[tokio::test]
async fn the_task_ends_with_the_socket() {
    let (_paper, socket) = socket(64);
    turn().await;
    let waits = Arc::downgrade(&socket.waits);
    drop(socket);
    turn().await;
    assert_eq!(waits.strong_count(), 0);
}

#[tokio::test]
async fn nothing_is_sent_to_port_0() {
    let (paper, socket) = socket(64);
    send(&socket, 0, 50).unwrap();
    send(&socket, 0, DATAGRAM_BYTES_MAX + 1).unwrap();
    turn().await;
    assert_eq!(paper.take(), []);
}

#[tokio::test]
async fn what_turns_out_to_be_unable_to_leave_together_leaves_one_by_one() {
    let (paper, socket) = socket(64);
    send(&socket, 1, 50).unwrap();
    send(&socket, 1, 50).unwrap();
    paper.segments_max.store(1, Ordering::Relaxed);
    turn().await;
    assert_eq!(paper.take(), [(address(1), vec![50]), (address(1), vec![50])]);
}

/// The tasks that are ready in one turn of one worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_several_threads_too_what_is_sent_in_a_turn_leaves_together() {
    let (paper, socket) = socket(64);
    let senders = async move {
        let send_one = |socket: Arc<GatheringSocket>| tokio::spawn(async move { send(&socket, 1, 50).unwrap() });
        let tasks: Vec<_> = (0..5).map(|_| send_one(socket.clone())).collect();
        for task in tasks {
            task.await.unwrap();
        }
        socket
    };
    let _socket = tokio::spawn(senders).await.unwrap();
    while paper.calls.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(paper.take(), [(address(1), vec![50; 5])]);
}

#[tokio::test]
async fn no_connection_gathers_more_by_itself_than_one_call_takes() {
    assert_eq!(socket(64).1.max_transmit_segments(), BURST_DATAGRAMS_MAX);
    assert_eq!(socket(1).1.max_transmit_segments(), 1, "and no more than can leave together");
}
