//! The page: shapes in one SVG that stretches along time, and text beside and above it, which does not.

use std::fmt::Write as _;

use super::lanes::{Lane, Picture, Sign, Span};

const LANE: u64 = 90;
const BAR: u64 = 60;

const STYLE: &str = "body{font:13px sans-serif;margin:12px;background:#fff;color:#222}pre{white-space:pre-wrap;color:#b00}\
#all{display:flex}#names div{height:90px;padding:4px 10px 0 0;box-sizing:border-box;font-weight:bold}#names{padding-top:20px}\
#view{overflow-x:auto;flex:1}#wide{position:relative;width:300%}#axis{height:20px;position:relative}\
#axis span{position:absolute;border-left:1px solid #999;padding-left:3px;color:#666}svg{display:block;width:100%}\
svg *{vector-effect:non-scaling-stroke}.l{fill:#f2b134}.f{fill:#bcd9ea}.c{fill:#d98bb5}.p{fill:#c9b3e6}.x{fill:#ddd}\
.commit{fill:none;stroke:#1b5e20;stroke-width:1.5}.message{fill:none;stroke:#888;stroke-opacity:.18}\
.fault{stroke:#c00;stroke-width:3}.crash{stroke:#000;stroke-width:3}.start{stroke:#080;stroke-width:3}\
.answer{stroke:#06c;stroke-width:1.5}.key span{padding:0 8px;margin-right:6px}";

pub(super) fn write(seed: u64, failure: Option<&str>, picture: &Picture) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>seed {seed}</title>\n<style>{STYLE}</style>\n\
         <h1>seed {seed}, {:.1} s</h1>\n",
        seconds(picture.end)
    );
    let mut put = |part: &str| {
        html.push_str(part);
        html.push('\n');
    };
    if let Some(failure) = failure {
        put(&format!("<pre>{}</pre>", escaped(failure)));
    }
    put(
        "<p class=\"key\"><span style=\"background:#f2b134\">leader</span><span style=\"background:#bcd9ea\">follower</span>\
         <span style=\"background:#d98bb5\">candidate</span><span style=\"background:#c9b3e6\">pre-candidate</span>\
         green line: commit index; red: fault; black: power lost; green: start; blue: answer</p>",
    );
    put("<p>stretch <input type=\"range\" min=\"100\" max=\"20000\" value=\"300\" \
         oninput=\"document.getElementById('wide').style.width=this.value+'%'\"></p>");
    if picture.messages_left_out > 0 {
        put(&format!("<p>{} later messages are not drawn</p>", picture.messages_left_out));
    }
    put("<div id=\"all\"><div id=\"names\">");
    for node in picture.lanes.keys() {
        put(&if *node == 0 { "<div>faults</div>".to_owned() } else { format!("<div>n{node}</div>") });
    }
    put("</div><div id=\"view\"><div id=\"wide\">");
    put(&axis(picture.end));
    put(&drawing(picture));
    put("</div></div></div></html>");
    html
}

/// About twenty labels.
fn axis(end: u64) -> String {
    let step = (end / 20).max(1_000_000).next_multiple_of(1_000_000);
    let mut axis = String::from("<div id=\"axis\">");
    for at in (0..end).step_by(step as usize) {
        let left = at as f64 * 100.0 / end as f64;
        add(&mut axis, format_args!("<span style=\"left:{left:.3}%\">{} s</span>", at / 1_000_000));
    }
    axis + "</div>"
}

fn drawing(picture: &Picture) -> String {
    let (width, height) = (picture.end.max(1), picture.lanes.len() as u64 * LANE);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" height=\"{height}\" preserveAspectRatio=\"none\">\n");
    for (number, (node, lane)) in (0..).zip(&picture.lanes) {
        let top = number * LANE + 5;
        picture.spans(lane).for_each(|span| bar(&mut svg, *node, top, &span));
        commits(&mut svg, picture, lane, top);
    }
    messages(&mut svg, picture);
    // Last, so that nothing lies over what has a text of its own.
    for (number, (node, lane)) in (0..).zip(&picture.lanes) {
        lane.signs.iter().for_each(|each| sign(&mut svg, *node, number * LANE, each));
    }
    svg + "</svg>"
}

fn bar(svg: &mut String, node: u64, top: u64, span: &Span) {
    let Span { from, to, role, term, commits } = span;
    let class = match role.chars().next().map(|first| first.to_ascii_lowercase()) {
        Some(first @ ('l' | 'f' | 'c' | 'p')) => first,
        _ => 'x',
    };
    let (width, role, term) = (to.saturating_sub(*from), escaped(role), escaped(term));
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

fn messages(svg: &mut String, picture: &Picture) {
    let middle =
        |node: u64| picture.lanes.keys().position(|lane| *lane == node).map(|lane| lane as u64 * LANE + 5 + BAR / 2);
    svg.push_str("<path class=\"message\" d=\"");
    for message in &picture.messages {
        if let (Some(from), Some(to)) = (middle(message.from), middle(message.to)) {
            add(svg, format_args!("M{} {from}L{} {to}", message.sent, message.at));
        }
    }
    svg.push_str("\"/>\n");
}

fn sign(svg: &mut String, node: u64, top: u64, sign: &Sign) {
    let Sign { at, kind, detail } = sign;
    // Answers stand below the bar; there are many.
    let (from, to) = if kind == "answer" { (top + BAR + 8, top + BAR + 20) } else { (top + 2, top + BAR + 8) };
    let who = if node == 0 { String::new() } else { format!("n{node} ") };
    let (when, detail) = (seconds(*at), escaped(detail));
    add(
        svg,
        format_args!(
            "<path class=\"{kind}\" d=\"M{at} {from}V{to}\"><title>{who}{kind}, {when:.3} s: {detail}</title></path>\n"
        ),
    );
}

fn add(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a string takes everything");
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
