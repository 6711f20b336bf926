use std::{cell::Cell, future::poll_fn, time::Duration};

use tokio::time::timeout;

use super::*;

/// For what the kernel does at once.
const AWAITED_MAX: Duration = Duration::from_secs(10);

fn bound() -> (Arc<Socket>, SocketAddr) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (Arc::new(Socket::new(socket).unwrap()), address)
}

/// Receives into this many buffers; the datagrams.
async fn receive(socket: &Socket, buffers: usize) -> Vec<Vec<u8>> {
    let mut bytes = vec![[0; 2_000]; buffers];
    let mut meta = vec![RecvMeta::default(); buffers];
    let mut slices: Vec<_> = bytes.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
    let received = poll_fn(|context| socket.poll_recv(context, &mut slices, &mut meta));
    let received = timeout(AWAITED_MAX, received).await.expect("something is received").unwrap();
    (0..received).map(|i| bytes[i][..meta[i].len].to_vec()).collect()
}

/// Does somebody who wants to send find that there may be room?
async fn may_send(poller: &mut Pin<Box<dyn UdpPoller>>) -> bool {
    poll_fn(|context| Poll::Ready(poller.as_mut().poll_writable(context).is_ready())).await
}

#[tokio::test]
async fn a_call_that_brought_fewer_than_it_could_is_the_last_until_something_arrives() {
    let (socket, address) = bound();
    let other = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    for round in 0..100_u8 {
        other.send_to(&[round], address).unwrap();
        assert_eq!(receive(&socket, 2).await, [[round]]);
        let calls = Cell::new(0);
        let count = |_: &UdpSocket| {
            calls.set(calls.get() + 1);
            Err(ErrorKind::WouldBlock.into())
        };
        assert!(poll_fn(|context| Poll::Ready(socket.poll_receive(context, 32, count).is_pending())).await);
        assert_eq!(calls.get(), 0, "nothing can be there, and yet the kernel was asked");
    }
}

#[tokio::test]
async fn all_that_arrived_is_received_however_little_a_call_takes() {
    let (socket, address) = bound();
    let other = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    for buffers in [1, 2, 3, 32] {
        let sent: Vec<_> = (0..24_u8).map(|datagram| vec![datagram]).collect();
        sent.iter().for_each(|datagram| _ = other.send_to(datagram, address).unwrap());
        let mut received = Vec::new();
        while received.len() < sent.len() {
            received.extend(receive(&socket, buffers).await);
        }
        assert_eq!(received, sent);
    }
}

#[tokio::test]
async fn who_found_no_room_waits_for_it_and_nobody_before() {
    let (socket, _) = bound();
    let mut poller = socket.clone().create_io_poller();
    assert!(may_send(&mut poller).await);
    assert!(socket.room.get().is_none(), "nobody lacked room");
    let full = |_: &UdpSocket| Err(ErrorKind::WouldBlock.into());
    assert_eq!(socket.send(full).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!may_send(&mut poller).await);
    // The kernel has room, and says so.
    let room = timeout(AWAITED_MAX, poll_fn(|context| poller.as_mut().poll_writable(context)));
    room.await.expect("there is room").unwrap();
    socket.send(|_| Ok(())).unwrap();
    // And again: from now on what the kernel said is believed until it turns out to be wrong.
    assert_eq!(socket.send(full).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!may_send(&mut poller).await);
}

#[tokio::test]
async fn an_error_is_not_the_end_of_receiving() {
    let (socket, address) = bound();
    UdpSocket::bind(("127.0.0.1", 0)).unwrap().send_to(&[1], address).unwrap();
    let calls = Cell::new(0);
    let fail_once = |_: &UdpSocket| {
        calls.set(calls.get() + 1);
        if calls.get() == 1 { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(1) }
    };
    let received = poll_fn(|context| socket.poll_receive(context, 1, fail_once));
    assert_eq!(timeout(AWAITED_MAX, received).await.expect("it is tried again").unwrap(), 1);
    assert_eq!(calls.get(), 2);
}

#[test]
fn who_sends_from_elsewhere_waits_for_room_where_the_socket_is_at_home() {
    let home = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
    let (socket, _) = home.block_on(async { bound() });
    let full = |_: &UdpSocket| Err(ErrorKind::WouldBlock.into());
    assert_eq!(socket.send(full).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut poller = socket.create_io_poller();
    home.block_on(async {
        let room = timeout(AWAITED_MAX, poll_fn(|context| poller.as_mut().poll_writable(context)));
        room.await.expect("there is room").unwrap();
    });
}
