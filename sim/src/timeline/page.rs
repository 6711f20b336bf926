//! The page: shapes in one SVG that stretches along time, and text beside and above it, which does not.

use std::fmt::{Arguments, Write as _};

use super::lanes::{Lane, Picture, Sign, Span, Stretch, rows};

/// A node's lane, and the bar in it.
const LANE: u64 = 90;
const BAR: u64 = 60;
/// A row of faults, and of calls.
const FAULT: usize = 17;
const CALL: usize = 7;
/// Most rows of either.
const FAULTS_MAX: usize = 12;
const CALLS_MAX: usize = 24;

const STYLE: &str = "body{font:13px sans-serif;margin:12px;background:#fff;color:#222}pre{white-space:pre-wrap;color:#b00}\
#all{display:flex}#names div{padding:4px 10px 0 0;box-sizing:border-box;font-weight:bold}#names{padding-top:20px}\
#view{overflow-x:auto;flex:1}#wide{position:relative;width:300%}#axis{height:20px;position:relative}\
#axis span{position:absolute;border-left:1px solid #999;padding-left:3px;color:#666}svg{display:block;width:100%}\
#faults{position:relative}#faults div{position:absolute;height:15px;font-size:11px;line-height:15px;white-space:nowrap;\
background:#fbd5d0;border-left:2px solid #c00;padding-left:2px;box-sizing:border-box;overflow:visible}\
svg *{vector-effect:non-scaling-stroke}.l{fill:#f2b134}.f{fill:#bcd9ea}.c{fill:#d98bb5}.p{fill:#c9b3e6}.x{fill:#ddd}\
.commit{fill:none;stroke:#1b5e20;stroke-width:1.5}.message{fill:none;stroke:#555;stroke-opacity:.2}\
.election{fill:none;stroke:#a0207a;stroke-opacity:.8}.fault{stroke:#c00;stroke-width:3}.crash{stroke:#000;stroke-width:3}\
.ended{stroke:#000;stroke-width:3;stroke-dasharray:3}.start{stroke:#080;stroke-width:3}.restored{stroke:#08a;stroke-width:3}\
.done{fill:#4a90d9}.told{fill:#e08a2e}.open{fill:#999}.key span{padding:0 8px;margin-right:6px}";

const KEY: &str = "<p class=\"key\"><span style=\"background:#f2b134\">leader</span><span style=\"background:#bcd9ea\">follower\
</span><span style=\"background:#d98bb5\">candidate</span><span style=\"background:#c9b3e6\">pre-candidate</span>\
green line: commit index; upright, red: fault, black: power lost, green: start, teal: goes on from a snapshot; \
lines between lanes: messages, those of elections purple; at the bottom the clients' requests: blue done or read, orange told \
something else, grey never told</p>";

pub(super) fn write(seed: u64, failure: Option<&str>, picture: &Picture) -> String {
    let end = seconds(picture.end);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>seed {seed}</title>\n<style>{STYLE}</style>\n\
         <h1>seed {seed}, {end:.1} s</h1>\n"
    );
    let mut put = |part: &str| {
        html.push_str(part);
        html.push('\n');
    };
    if let Some(failure) = failure {
        put(&format!("<pre>{}</pre>", escaped(failure)));
    }
    put(KEY);
    put("<p>stretch <input type=\"range\" min=\"100\" max=\"20000\" value=\"300\" \
         oninput=\"document.getElementById('wide').style.width=this.value+'%'\"></p>");
    if picture.messages_left_out > 0 {
        put(&format!("<p>{} later messages are not drawn</p>", picture.messages_left_out));
    }
    let faults = rows(picture.faults.iter(), FAULTS_MAX);
    let calls = rows(picture.calls(), CALLS_MAX);
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
    put(&drawing(picture, &calls, below));
    put("</div></div></div></html>");
    html
}

/// Of all rows, and of one at least, for the name.
fn height(rows: &[(&Stretch, usize)], row: usize) -> usize {
    rows.iter().map(|(_, at)| (at + 1) * row).max().unwrap_or(0).max(FAULT) + 6
}

/// About twenty labels.
fn axis(end: u64) -> String {
    let step = (end / 20).max(1_000_000).next_multiple_of(1_000_000);
    let mut axis = String::from("<div id=\"axis\">");
    for at in (0..end).step_by(step as usize) {
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
                "<div style=\"left:{left:.3}%;width:{width:.3}%;top:{top}px\" title=\"{words}, {times}\">{words}</div>\n"
            ),
        );
    }
    html + "</div>"
}

fn drawing(picture: &Picture, calls: &[(&Stretch, usize)], below: usize) -> String {
    let nodes = picture.lanes.len() as u64 * LANE;
    let (width, height) = (picture.end.max(1), nodes + below as u64);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" height=\"{height}\" preserveAspectRatio=\"none\">\n");
    for (number, (node, lane)) in (0..).zip(&picture.lanes) {
        let top = number * LANE + 5;
        picture.spans(lane).for_each(|span| bar(&mut svg, *node, top, &span));
        commits(&mut svg, picture, lane, top);
    }
    messages(&mut svg, picture, "message", false);
    messages(&mut svg, picture, "election", true);
    // Last, so that nothing lies over what has a text of its own.
    for (number, (node, lane)) in (0..).zip(&picture.lanes) {
        lane.signs.iter().for_each(|each| sign(&mut svg, *node, number * LANE, each));
    }
    calls.iter().for_each(|(each, row)| call(&mut svg, picture.end, nodes + (row * CALL) as u64, each));
    svg + "</svg>"
}

fn bar(svg: &mut String, node: u64, top: u64, span: &Span) {
    let Span { from, to, role, term, commits } = span;
    let class = match *role {
        "leader" => 'l',
        "follower" => 'f',
        "candidate" => 'c',
        "pre-candidate" => 'p',
        _ => 'x',
    };
    let (width, term) = (to.saturating_sub(*from), escaped(term));
    let times = format!("{:.3} s to {:.3} s", seconds(*from), seconds(*to));
    add(
        svg,
        format_args!(
            "<rect class=\"{class}\" x=\"{from}\" y=\"{top}\" width=\"{width}\" height=\"{BAR}\"><title>n{node} {role}, term \
             {term}, {times}, commit {} to {}</title></rect>\n",
            commits.0, commits.1
        ),
    );
}

/// Steps from the bar's lower edge, where nothing is committed, to its upper one, where the most is.
fn commits(svg: &mut String, picture: &Picture, lane: &Lane, top: u64) {
    let height = |commit: u64| top + BAR - commit * BAR / picture.commit_max.max(1);
    let Some((first, commit)) = lane.commits.first() else { return };
    add(svg, format_args!("<path class=\"commit\" d=\"M{first} {}", height(*commit)));
    for (at, commit) in &lane.commits[1..] {
        add(svg, format_args!("H{at}V{}", height(*commit)));
    }
    svg.push_str("\"/>\n");
}

fn messages(svg: &mut String, picture: &Picture, class: &str, elects: bool) {
    let middle =
        |node: u64| picture.lanes.keys().position(|lane| *lane == node).map(|lane| lane as u64 * LANE + 5 + BAR / 2);
    add(svg, format_args!("<path class=\"{class}\" d=\""));
    for message in picture.messages.iter().filter(|message| message.elects == elects) {
        if let (Some(from), Some(to)) = (middle(message.from), middle(message.to)) {
            add(svg, format_args!("M{} {from}L{} {to}", message.sent, message.at));
        }
    }
    svg.push_str("\"/>\n");
}

fn sign(svg: &mut String, node: u64, top: u64, Sign { at, kind, detail }: &Sign) {
    let (from, to) = (top + 2, top + BAR + 8);
    let (when, detail) = (seconds(*at), escaped(detail));
    add(
        svg,
        format_args!(
            "<path class=\"{kind}\" d=\"M{at} {from}V{to}\"><title>n{node} {kind}, {when:.3} s: {detail}</title></path>\n"
        ),
    );
}

fn call(svg: &mut String, end: u64, top: u64, call: &Stretch) {
    let class = match call.end.split_whitespace().next() {
        None => "open",
        Some("done" | "read") => "done",
        Some(_) => "told",
    };
    // What was never told is a stub: nobody knows how long the client waited. All are wide enough to be pointed at.
    let width = call.to.map_or(0, |to| to - call.from).max(end / 2_000);
    let (what, times) = (escaped(&call.what), times(call));
    let told = if call.end.is_empty() { "no answer".to_owned() } else { escaped(&call.end) };
    let (x, height) = (call.from, CALL - 1);
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

fn percent(part: u64, of: u64) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
