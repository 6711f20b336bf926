//! The page: shapes in one SVG that stretches along time, and text beside, above and over it, which does not.

use std::fmt::{self, Arguments, Write as _};

use super::lanes::{Lane, Picture, Sign, Span, Stretch, rows};

/// A node's lane, and the bar in it.
const LANE: u64 = 90;
const BAR: u64 = 60;
/// A row of faults, and of calls.
const FAULT: usize = 17;
const CALL: usize = 7;
/// Most rows of either.
const FAULTS_MAX: usize = 24;
const CALLS_MAX: usize = 24;
/// The picture is at least so wide, about, on a usual screen, and a letter of a fault's words.
const WIDE_PX: u64 = 1_400;
const LETTER_PX: u64 = 6;
/// Most labels of the axis: each has room.
const LABELS_MAX: u64 = 50;

const STYLE: &str = include_str!("page.css");

/// Shapes, their colours in the style, and what they mean.
const KEY: [(&str, &str, &str); 15] = [
    ("area", "leader", "leader"),
    ("area", "follower", "follower"),
    ("area", "pre-candidate", "pre-candidate"),
    ("area", "candidate", "candidate"),
    ("across", "commit", "commit index: at the bar's upper edge, the highest of all"),
    ("upright", "start", "start"),
    ("upright", "restored", "goes on from a snapshot"),
    ("upright", "crash", "power lost, or, dashed, ended by itself; no bar: it is down"),
    ("area", "fault-ground", "a fault, as planned"),
    ("upright", "fault", "a fault hits a node"),
    ("upright", "message", "message"),
    ("upright", "election", "message of an election"),
    ("area", "done", "request: done, or read"),
    ("area", "told", "told something else"),
    ("area", "open", "never told"),
];

/// Stretches the picture, and keeps in the middle what is there. The slider's steps are equal to the eye.
const STRETCH: &str = "<p>stretch <input type=\"range\" min=\"0\" max=\"8\" step=\"0.05\" value=\"1.585\" oninput=\"\
const view = document.getElementById('view'), wide = document.getElementById('wide'), half = view.clientWidth / 2, \
middle = (view.scrollLeft + half) / wide.clientWidth; wide.style.width = 100 * 2 ** this.value + '%'; \
view.scrollLeft = middle * wide.clientWidth - half\"> what is under the pointer says what it is</p>";

pub(super) fn write(seed: u64, failure: Option<&str>, picture: &Picture) -> String {
    let (end, verdict) = (seconds(picture.end), if failure.is_some() { "fails" } else { "passes" });
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>seed {seed}</title>\n<style>\n{STYLE}</style>\n\
         <h1>seed {seed} {verdict}: {end:.1} simulated s</h1>\n"
    );
    let mut put = |part: &str| {
        html.push_str(part);
        html.push('\n');
    };
    if let Some(failure) = failure {
        put(&format!("<pre>{}</pre>", escaped(failure)));
    }
    put(&key());
    put(STRETCH);
    if picture.messages_left_out > 0 {
        put(&format!("<p>{} later messages are not drawn</p>", picture.messages_left_out));
    }
    // Words are as long at any stretch: they have room at the least one.
    let words = |fault: &Stretch| (fault.what.len() as u64 * LETTER_PX + 10) * picture.end / WIDE_PX;
    let faults = rows(picture.faults.iter(), FAULTS_MAX, words);
    let calls = rows(picture.calls(), CALLS_MAX, |_| call_min(picture.end));
    let (above, below) = (height(&faults, FAULT), height(&calls, CALL));
    put("<div id=\"all\"><div id=\"names\">");
    put(&format!("<div style=\"height:{above}px\">faults</div>"));
    for node in picture.lanes.keys() {
        put(&format!("<div style=\"height:{LANE}px\">n{node}</div>"));
    }
    put(&format!("<div style=\"height:{below}px\">clients</div>"));
    put("</div><div id=\"view\"><div id=\"wide\">");
    put(&axis(picture.end));
    put(&banner(picture.end, &faults, above));
    put("<div id=\"lanes\">");
    put(&drawing(picture, &calls, below));
    put(&labels(picture));
    put("</div></div></div></div></html>");
    html
}

fn key() -> String {
    let mut html = String::from("<p class=\"key\">");
    for (shape, colour, words) in KEY {
        add(&mut html, format_args!("<span><i class=\"{shape}\" style=\"color:var(--{colour})\"></i>{words}</span>\n"));
    }
    html + "</p>"
}

/// Of all rows, and of one at least, for the name.
fn height(rows: &[(&Stretch, usize)], row: usize) -> usize {
    rows.iter().map(|(_, at)| (at + 1) * row).max().unwrap_or(0).max(FAULT) + 6
}

/// Microseconds between two labels: 1, 2 or 5 s, or ten times that, and so on.
fn step(end: u64) -> u64 {
    let steps = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power) * 1_000_000));
    steps.into_iter().find(|step| end / step <= LABELS_MAX).expect("some step is long enough")
}

fn axis(end: u64) -> String {
    let mut axis = String::from("<div id=\"axis\">");
    for at in (0..end).step_by(step(end) as usize) {
        add(&mut axis, format_args!("<span style=\"left:{:.3}%\">{} s</span>", percent(at, end), at / 1_000_000));
    }
    axis + "</div>"
}

/// The faults, with their words.
fn banner(end: u64, faults: &[(&Stretch, usize)], height: usize) -> String {
    let mut html = format!("<div id=\"faults\" style=\"height:{height}px\">\n");
    for (fault, row) in faults {
        let to = fault.to.unwrap_or(fault.from).min(end);
        let (left, width, top) = (percent(fault.from, end), percent(to - fault.from.min(to), end), row * FAULT);
        let (words, times) = (escaped(&fault.what), times(fault));
        add(
            &mut html,
            format_args!(
                "<div style=\"left:{left:.3}%;width:{width:.3}%;top:{top}px\" title=\"{words}, {times}\"><b>{words}</b></div>\n"
            ),
        );
    }
    html + "</div>"
}

/// Who it was, and in which term, over its bar.
fn labels(picture: &Picture) -> String {
    let mut html = String::new();
    for (number, lane) in (0..).zip(picture.lanes.values()) {
        for Span { from, to, role, term, .. } in picture.spans(lane) {
            let (left, width) = (percent(from, picture.end), percent(to.saturating_sub(from), picture.end));
            let (top, term) = (number * LANE + 6, escaped(&term));
            let role = if role == "follower" { String::new() } else { format!("{role}, ") };
            add(
                &mut html,
                format_args!(
                    "<div style=\"left:{left:.3}%;width:{width:.3}%;top:{top}px\"><b>{role}term {term}</b></div>\n"
                ),
            );
        }
    }
    html
}

fn drawing(picture: &Picture, calls: &[(&Stretch, usize)], below: usize) -> String {
    let nodes = picture.lanes.len() as u64 * LANE;
    let (width, height) = (Along(picture.end.max(100)), nodes + below as u64);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" height=\"{height}\" preserveAspectRatio=\"none\">\n");
    grid(&mut svg, picture.end, height);
    let lanes = || (0..).map(|number: u64| number * LANE).zip(&picture.lanes);
    for (top, (node, lane)) in lanes() {
        picture.spans(lane).for_each(|span| bar(&mut svg, *node, top + 5, &span));
    }
    messages(&mut svg, picture, "message", false);
    messages(&mut svg, picture, "election", true);
    lanes().for_each(|(top, (_, lane))| commits(&mut svg, picture, lane, top + 5));
    // Last, so that nothing lies over what has a text of its own.
    for (top, (node, lane)) in lanes() {
        lane.signs.iter().for_each(|each| sign(&mut svg, *node, top, each));
    }
    calls.iter().for_each(|(each, row)| call(&mut svg, picture.end, nodes + (row * CALL) as u64, each));
    svg + "</svg>"
}

fn grid(svg: &mut String, end: u64, height: u64) {
    svg.push_str("<path class=\"grid\" d=\"");
    (0..end).step_by(step(end) as usize).for_each(|at| add(svg, format_args!("M{} 0V{height}", Along(at))));
    svg.push_str("\"/>\n");
}

fn bar(svg: &mut String, node: u64, top: u64, span: &Span) {
    let Span { from, to, role, term, commits } = span;
    let (x, width, term) = (Along(*from), Along(to.saturating_sub(*from)), escaped(term));
    let times = format!("{:.3} s to {:.3} s", seconds(*from), seconds(*to));
    add(
        svg,
        format_args!(
            "<rect class=\"{role}\" x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{BAR}\"><title>n{node} {role}, term \
             {term}, {times}, commit {} to {}</title></rect>\n",
            commits.0, commits.1
        ),
    );
}

/// Steps from the bar's lower edge, where nothing is committed, to its upper one, where the most is.
fn commits(svg: &mut String, picture: &Picture, lane: &Lane, top: u64) {
    let height = |commit: u64| top + BAR - commit * BAR / picture.commit_max.max(1);
    let Some((first, commit)) = lane.commits.first() else { return };
    add(svg, format_args!("<path class=\"commit\" d=\"M{} {}", Along(*first), height(*commit)));
    for (at, commit) in &lane.commits[1..] {
        add(svg, format_args!("H{}V{}", Along(*at), height(*commit)));
    }
    svg.push_str("\"/>\n");
}

fn messages(svg: &mut String, picture: &Picture, class: &str, elects: bool) {
    let middle =
        |node: u64| picture.lanes.keys().position(|lane| *lane == node).map(|lane| lane as u64 * LANE + 5 + BAR / 2);
    add(svg, format_args!("<path class=\"{class}\" d=\""));
    for message in picture.messages.iter().filter(|message| message.elects == elects) {
        if let (Some(from), Some(to)) = (middle(message.from), middle(message.to)) {
            add(svg, format_args!("M{} {from}L{} {to}", Along(message.sent), Along(message.at)));
        }
    }
    svg.push_str("\"/>\n");
}

fn sign(svg: &mut String, node: u64, top: u64, Sign { at, kind, detail }: &Sign) {
    let (from, to) = (top + 2, top + BAR + 8);
    let (x, when, detail) = (Along(*at), seconds(*at), escaped(detail));
    add(
        svg,
        format_args!(
            "<path class=\"{kind}\" d=\"M{x} {from}V{to}\"><title>n{node} {kind}, {when:.3} s: {detail}</title></path>\n"
        ),
    );
}

/// How wide the briefest call is drawn, in microseconds: enough to be pointed at.
fn call_min(end: u64) -> u64 {
    end / 2_000
}

fn call(svg: &mut String, end: u64, top: u64, call: &Stretch) {
    let class = match call.end.split_whitespace().next() {
        None => "open",
        Some("done" | "read") => "done",
        Some(_) => "told",
    };
    // What was never told is a stub: nobody knows how long the client waited.
    let width = call.to.map_or(0, |to| to - call.from).max(call_min(end));
    let (what, times) = (escaped(&call.what), times(call));
    let told = if call.end.is_empty() { "no answer".to_owned() } else { escaped(&call.end) };
    let (x, width, height) = (Along(call.from), Along(width), CALL - 1);
    add(
        svg,
        format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"><title>{what}, {times}: {told}\
             </title></rect>\n"
        ),
    );
}

fn times(stretch: &Stretch) -> String {
    let from = seconds(stretch.from);
    stretch.to.map_or(format!("{from:.3} s"), |to| format!("{from:.3} s to {:.3} s", seconds(to)))
}

fn add(text: &mut String, part: Arguments<'_>) {
    text.write_fmt(part).expect("a string takes everything");
}

/// A place along time, of so many microseconds, as the drawing counts: in milliseconds. Browsers know no lengths beyond
/// 2^25, and with microseconds 34 s would be the end of the world.
struct Along(u64);

impl fmt::Display for Along {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1_000, self.0 / 100 % 10)
    }
}

fn percent(part: u64, of: u64) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
