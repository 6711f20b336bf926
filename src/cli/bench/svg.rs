//! Latency against load as a picture: SVG written by hand, both axes logarithmic, without script or outer resource.

use std::fmt::Write;

/// What one rate gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// Requests offered a second.
    pub(super) rate: f64,
    /// Requests answered a second.
    pub(super) answered: f64,
    /// p50, p99 and p99.9, in microseconds.
    pub(super) latency_us: [u64; 3],
}

impl Point {
    /// Did the cluster answer what was offered? What it fell short of waits, and the percentiles tell how long the test was.
    fn is_met(&self) -> bool {
        self.answered >= 0.98 * self.rate
    }
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 480.0;
/// The plot within the picture.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 770.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 420.0;

/// Name and colour of each line; told apart by those who do not see red and green, too.
const LINES: [(&str, &str); 3] = [("p50", "#0072b2"), ("p99", "#e69f00"), ("p99.9", "#cc3311")];

/// A logarithmic axis.
struct Axis {
    min: f64,
    max: f64,
    /// Where `min` and `max` lie in the picture.
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis from the grid line below the least value to the one above the greatest.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut least, mut greatest) = (f64::INFINITY, 1.0_f64);
        for value in values {
            least = least.min(value.max(1.0));
            greatest = greatest.max(value);
        }
        let least = if least.is_finite() { least } else { 1.0 };
        let min = grid().take_while(|&line| line <= least).last().unwrap_or(1.0);
        let max = grid().find(|&line| line >= greatest && line > min).unwrap_or(greatest);
        Self { min, max, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.min) / self.min).ln() / (self.max / self.min).ln();
        self.from + share * (self.to - self.from)
    }

    fn lines(&self) -> impl Iterator<Item = f64> {
        let (min, max) = (self.min, self.max);
        grid().filter(move |&line| line >= min && line <= max)
    }
}

/// 1, 2, 5, 10, 20, 50 and so on to 10^12.
fn grid() -> impl Iterator<Item = f64> {
    (0..12).flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(exponent)))
}

fn rate_text(rate: f64) -> String {
    match rate {
        1e6.. => format!("{} M", rate / 1e6),
        1e3.. => format!("{} k", rate / 1e3),
        _ => format!("{rate}"),
    }
}

fn latency_text(us: f64) -> String {
    match us {
        1e6.. => format!("{} s", us / 1e6),
        1e3.. => format!("{} ms", us / 1e3),
        _ => format!("{us} µs"),
    }
}

/// The picture of these points, one a rate.
pub(super) fn draw(title: &str, points: &[Point]) -> String {
    let x = Axis::over(points.iter().map(|point| point.rate), LEFT, RIGHT);
    let y = Axis::over(points.iter().flat_map(|point| point.latency_us.map(|us| us as f64)), BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    axes(&mut svg, &x, &y);
    for (number, (name, colour)) in LINES.into_iter().enumerate() {
        let at = |point: &Point| (x.at(point.rate), y.at(point.latency_us[number] as f64));
        line(&mut svg, colour, points.iter().map(|point| (at(point), point.is_met())));
        let left = LEFT + 80.0 * number as f64;
        put(&mut svg, format_args!("<circle cx=\"{left}\" cy=\"44\" r=\"4\" fill=\"{colour}\"/>"));
        put(&mut svg, format_args!("<text x=\"{}\" y=\"48\">{name}</text>", left + 10.0));
    }
    let hollow = LEFT + 80.0 * LINES.len() as f64;
    put(&mut svg, format_args!("<circle cx=\"{hollow}\" cy=\"44\" r=\"4\" fill=\"#ffffff\" stroke=\"#555555\"/>"));
    put(&mut svg, format_args!("<text x=\"{}\" y=\"48\">less was answered than offered</text>", hollow + 10.0));
    svg + "</svg>\n"
}

fn axes(svg: &mut String, x: &Axis, y: &Axis) {
    for rate in x.lines() {
        let at = x.at(rate);
        put(svg, format_args!("<path d=\"M{at:.1} {TOP}V{BOTTOM}\" stroke=\"#dddddd\"/>"));
        let label = BOTTOM + 18.0;
        put(svg, format_args!("<text x=\"{at:.1}\" y=\"{label}\" text-anchor=\"middle\">{}</text>", rate_text(rate)));
    }
    for us in y.lines() {
        let at = y.at(us);
        put(svg, format_args!("<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#dddddd\"/>"));
        let (right, middle) = (LEFT - 8.0, at + 4.0);
        put(svg, format_args!("<text x=\"{right}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>", latency_text(us)));
    }
    put(svg, format_args!("<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#333333\"/>"));
    let (middle, below) = ((LEFT + RIGHT) / 2.0, BOTTOM + 42.0);
    put(
        svg,
        format_args!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">requests offered a second</text>"),
    );
}

/// A line through points, each with whether it is filled.
fn line(svg: &mut String, colour: &str, points: impl Iterator<Item = ((f64, f64), bool)> + Clone) {
    let path: Vec<_> = points.clone().map(|((x, y), _)| format!("{x:.1} {y:.1}")).collect();
    put(svg, format_args!("<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join("L")));
    for ((x, y), filled) in points {
        let fill = if filled { colour } else { "#ffffff" };
        put(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\"/>"));
    }
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a string takes everything");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rate: f64, answered: f64, latency_us: [u64; 3]) -> Point {
        Point { rate, answered, latency_us }
    }

    #[test]
    fn an_axis_is_logarithmic_and_ends_on_grid_lines() {
        let axis = Axis::over([300.0, 45_000.0].into_iter(), 0.0, 100.0);
        assert_eq!((axis.min, axis.max), (200.0, 50_000.0));
        assert_eq!((axis.at(200.0), axis.at(50_000.0)), (0.0, 100.0));
        let step = axis.at(2_000.0) - axis.at(200.0);
        assert!((axis.at(20_000.0) - axis.at(2_000.0) - step).abs() < 1e-9, "ten times is as far everywhere");
        assert_eq!(axis.lines().next(), Some(200.0));
        assert_eq!(axis.lines().count(), 8);
        // One value alone, none, and a latency of 0 µs must not divide by nothing.
        for values in [vec![1_000.0], vec![], vec![0.0]] {
            let axis = Axis::over(values.clone().into_iter(), 0.0, 100.0);
            assert!(axis.min < axis.max && axis.at(1_000.0).is_finite(), "{values:?}");
        }
    }

    #[test]
    fn the_picture_has_axes_a_legend_and_a_line_for_every_percentile() {
        let points = [
            point(1_000.0, 1_000.0, [400, 900, 2_000]),
            point(5_000.0, 4_999.0, [500, 1_500, 9_000]),
            point(50_000.0, 31_000.0, [80_000, 900_000, 1_200_000]),
        ];
        let svg = draw("draws < 3 & more", &points);
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{svg}");
        for part in ["draws &lt; 3 &amp; more", ">p50<", ">p99<", ">p99.9<", ">1 k<", ">50 k<", ">1 ms<", ">2 s<"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        for (_, colour) in LINES {
            let mine = |part: &str| svg.matches(&format!("{part} stroke=\"{colour}\"")).count();
            assert_eq!(mine("fill=\"none\""), 1, "one line");
            assert_eq!(mine(&format!("fill=\"{colour}\"")), 2, "two points that were met");
            assert_eq!(mine("fill=\"#ffffff\""), 1, "one that was not");
        }
        let tags = |mark: &str| svg.matches(mark).count();
        assert_eq!(tags("<text"), tags("</text>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
