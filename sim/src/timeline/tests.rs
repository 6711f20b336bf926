use super::*;

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_line_is_taken_apart() {
    let event = Event::parse("t=12.000345 n2 turn | L term=7 x").unwrap();
    assert_eq!((event.at, event.node, event.kind), (12_000_345, 2, "turn"));
    assert_eq!(event.fields(), BTreeMap::from([("term", "7")]));
    assert!(Event::parse("trace 0123").is_none());
}

#[test]
fn roles_faults_lives_messages_and_calls_are_drawn() {
    let page = page(
        7,
        Some("Correctness by once: <twice>"),
        &lines(&[
            "t=0.000000 n1 start | life",
            "t=0.000004 n1 start | life=1 snap=0",
            "t=0.000004 n2 start | life=1 snap=0",
            "t=0.100000 n1 turn | F term=1 commit=1 last=1 applied=1 snap=1 dig=20de",
            "t=0.500000 n1 turn | L term=2 commit=1 last=2 applied=1 snap=1 dig=20de",
            "t=0.600000 n0 ask | #3 client-2 draw 1 of <b> under 0194",
            "t=0.600000 n0 ask | #4 client-2 reads default",
            "t=0.900000 n1 turn | L term=2 commit=9 last=9 applied=9 snap=1 dig=4f3a",
            "t=0.950000 n2 deliver | append n1>n2 #7 sent=0.940000",
            "t=0.970000 n2 deliver | request c1>n2 #0 sent=0.960000",
            "t=1.000000 n0 plan | partition shape=groups:1|2 ms=500",
            "t=1.000000 n1 crash | Torn",
            "t=1.100000 n0 told | #3 done at 5",
            "t=2.000000 n1 start | life",
            "t=3.000000 n0 heal | n1 n2",
        ]),
    );
    for part in [
        "once: &lt;twice&gt;",
        "class=\"leader\"",
        "leader, term 2</b></div>",
        "seed 7 fails: 3.0 simulated s",
        "n1 leader, term 2, 0.500 s to 1.000 s, commit 1 to 9",
        "n1 follower, term 1, 0.100 s to 0.500 s",
        "partition shape=groups:1|2 ms=500",
        "1.000 s to 1.500 s",
        "n1 crash, 1.000 s: Torn",
        "#3 client-2 draw 1 of &lt;b&gt; under 0194, 0.600 s to 1.100 s: done at 5",
        "#4 client-2 reads default, 0.600 s: no answer",
        "heal n1 n2",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    // From n1's lane to that of n2, while it was on its way; what clients send is drawn as their calls.
    assert!(page.contains("M940.0 ") && page.contains("L950.0 ") && !page.contains("M960.0 "), "{page}");
    let outside = ["http://", "https://", "<link", "src=", "of <b>"];
    assert!(outside.iter().all(|part| !page.contains(part)));
}

#[test]
fn what_happens_at_once_stands_in_rows_of_its_own() {
    let asks = (0..3).map(|call| format!("t=0.{call}00000 n0 ask | #{call} client-1 reads default"));
    let tells = (0..3).map(|call| format!("t=1.{call}00000 n0 told | #{call} read at 1"));
    let again = ["t=1.500000 n0 ask | #3 client-1 reads default".to_owned()];
    let lines: Vec<String> = asks.chain(tells).chain(again).collect();
    let mut picture = Picture::default();
    lines.iter().filter_map(|line| Event::parse(line)).for_each(|event| picture.add(&event));
    let rows = |drawn_min| -> Vec<usize> {
        lanes::rows(picture.calls(), 9, |_| drawn_min).into_iter().map(|(_, row)| row).collect()
    };
    assert_eq!(rows(0), [0, 1, 2, 0]);
    assert_eq!(rows(1_500_000), [0, 1, 2, 0], "drawn until then, and no longer");
    assert_eq!(rows(1_500_001), [0, 1, 2, 3]);
}

#[test]
fn nothing_is_drawn_farther_out_than_browsers_can_count() {
    let turns = [
        "t=0.000000 n1 turn | F term=1 commit=1",
        "t=3600.000150 n1 turn | L term=2 commit=2",
        "t=7200.000000 n1 crash | All",
    ];
    let page = page(1, None, &lines(&turns));
    assert!(page.contains("viewBox=\"0 0 7200000.0 "), "{page}");
    assert!(page.contains("<rect class=\"leader\" x=\"3600000.1\" y=\"5\" width=\"3599999.8\""), "{page}");
}

#[test]
fn an_empty_trace_is_an_empty_page() {
    assert!(page(1, None, &[]).contains("seed 1 passes: 0.0 simulated s"));
}
