//! A picture that stands alone: no scripts, no outside fonts, light and dark.

use super::layout::{Layout, Link, Point, Route, Size, layout};
use super::{Edge, Line, Look, Picture, Shape};
use crate::text::bounded;

const STYLE: &str = "\
svg{--back:#ffffff;--ink:#1f2328;--soft:#59636e;--line:#818b98;--task:#f6f8fa;--prompt:#fbefff;\
--violet:#8250df;--again:#bc4c00;--gate:#fff8c5;--amber:#9a6700;--red:#cf222e}\
@media (prefers-color-scheme:dark){svg{--back:#0d1117;--ink:#f0f6fc;--soft:#9198a1;--line:#656c76;\
--task:#161b22;--prompt:#271c41;--violet:#ab7df8;--again:#f0883e;--gate:#2e2a1f;--amber:#d29922;--red:#f85149}}\
.back{fill:#ffffff;fill:var(--back)}\
.box{fill:#f6f8fa;fill:var(--task);stroke:#818b98;stroke:var(--line);stroke-width:1.2}\
.box.prompt{fill:#fbefff;fill:var(--prompt);stroke:#8250df;stroke:var(--violet)}\
.box.gate{fill:#fff8c5;fill:var(--gate);stroke:#9a6700;stroke:var(--amber)}\
.box.danger{stroke:#cf222e;stroke:var(--red);stroke-width:2}\
.frame{fill:none;stroke:#818b98;stroke:var(--line);stroke-width:.8}\
.mark{fill:#59636e;fill:var(--soft)}\
.ring{fill:none;stroke:#59636e;stroke:var(--soft);stroke-width:1.5}\
.edge{fill:none;stroke:#818b98;stroke:var(--line);stroke-width:1.4}\
.edge.again{stroke:#bc4c00;stroke:var(--again);stroke-dasharray:5 3}\
.edge.fails{stroke:#cf222e;stroke:var(--red);stroke-dasharray:7 4}\
.edge.chosen{stroke-dasharray:1.5 4;stroke-linecap:round}\
.head{fill:#818b98;fill:var(--line)}\
.head.again{fill:#bc4c00;fill:var(--again)}\
.head.fails{fill:#cf222e;fill:var(--red)}\
text{font-family:ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;text-anchor:middle}\
.name{font-size:14px;font-weight:600;fill:#1f2328;fill:var(--ink)}\
.detail,.label{font-size:11px;font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;\
fill:#59636e;fill:var(--soft)}\
.plate{fill:#ffffff;fill:var(--back);fill-opacity:.85}";

/// Longest name or condition that is written out; the whole of it is in the tooltip.
const LONGEST: usize = 44;
const MARK: f64 = 7.0;
/// How far the cards of a fan-out stand out behind each other.
const CARD: f64 = 5.0;
/// How far the sides of a gate lean in.
const CORNER: f64 = 18.0;
/// Room at the right side of a box for an edge from it to itself.
const LOOP: f64 = 34.0;

/// Draws the picture.
pub(super) fn draw(picture: &Picture) -> String {
    let count = picture.nodes.len();
    let (start, end) = (count, count + 1);
    let inner: Vec<Size> = picture.nodes.iter().map(box_size).collect();
    let mut sizes = inner.clone();
    for edge in picture.edges.iter().filter(|edge| edge.to == Some(edge.from)) {
        if let Some(size) = sizes.get_mut(edge.from) {
            // The box stays in the middle, so the room is there on both sides.
            let room = 2.0 * (LOOP + label_size(edge).width);
            size.width = size.width.max(inner.get(edge.from).map_or(0.0, |size| size.width) + room);
        }
    }
    let mark = Size { width: 2.0 * MARK, height: 2.0 * MARK };
    sizes.push(mark);
    if picture.has_end() {
        sizes.push(mark);
    }
    let mut links: Vec<Link> = picture
        .edges
        .iter()
        .map(|edge| Link { from: edge.from, to: edge.to.unwrap_or(end), label: label_size(edge) })
        .collect();
    if picture.start < count {
        links.push(Link { from: start, to: picture.start, label: Size { width: 0.0, height: 0.0 } });
    }
    let last = picture.last.filter(|_| picture.has_end());
    if let Some(last) = last {
        links.push(Link { from: end, to: last, label: Size { width: 0.0, height: 0.0 } });
    }
    let layout = layout(&sizes, &links, start, last.or(picture.has_end().then_some(end)));
    let mut out = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             role=\"img\" aria-label=\"graph {name}\">",
            w = number(layout.width),
            h = number(layout.height),
            name = escape(&picture.name)
        ),
        format!("<title>{}</title>", escape(&picture.name)),
        format!("<style>{STYLE}</style>"),
        "<rect class=\"back\" width=\"100%\" height=\"100%\" rx=\"8\"/>".to_owned(),
    ];
    let edges = picture.edges.iter().map(Some).chain(std::iter::repeat(None));
    for ((link, route), edge) in links.iter().zip(&layout.routes).zip(edges) {
        out.push(path(link, route, &layout, &inner, edge, &sizes));
    }
    for (index, node) in picture.nodes.iter().enumerate() {
        if let (Some(middle), Some(size)) = (layout.boxes.get(index), inner.get(index)) {
            out.push(node_box(index, node, *middle, *size));
        }
    }
    for (index, class) in [(start, "start"), (end, "end")] {
        if let Some(middle) = layout.boxes.get(index) {
            out.push(end_mark(class, *middle));
        }
    }
    // Labels last: no line runs over them.
    for (edge, route) in picture.edges.iter().zip(&layout.routes) {
        out.extend(label(edge, route, inner.get(edge.from)));
    }
    out.push("</svg>".to_owned());
    out.join("\n") + "\n"
}

fn box_size(node: &Shape) -> Size {
    let mut width = wide(&title(node), 8.4).max(wide(&node.detail, 6.8)).max(wide(&marks(node), 6.8));
    let mut height = 46.0;
    if let Some((_, each)) = &node.each {
        width = width.max(wide(each, 6.8)) + 2.0 * CARD;
        height += 15.0;
    }
    if !node.marks.is_empty() {
        height += 15.0;
    }
    if node.look == Look::Gate {
        width += 2.0 * CORNER;
        height += 6.0;
    }
    Size { width: width + 28.0, height }
}

fn marks(node: &Shape) -> String {
    node.marks.join(", ")
}

/// How wide a text is, about; the letters of other scripts may be as wide as they are high.
fn wide(text: &str, each: f64) -> f64 {
    bounded(text, LONGEST).chars().map(|c| if c < '\u{1100}' { each } else { each * 2.0 }).sum()
}

fn title(node: &Shape) -> String {
    match &node.each {
        Some((times, _)) => format!("{} {times}", bounded(&node.name, LONGEST - 8)),
        None if node.look == Look::Gate => format!("◆ {}", node.name),
        None => node.name.clone(),
    }
}

fn label_size(edge: &Edge) -> Size {
    if edge.label.is_empty() {
        return Size { width: 0.0, height: 0.0 };
    }
    Size { width: wide(&edge.label, 6.8) + 8.0, height: 16.0 }
}

fn node_box(index: usize, node: &Shape, middle: Point, size: Size) -> String {
    let (left, top) = (middle.x - size.width / 2.0, middle.y - size.height / 2.0);
    let mut class = match node.look {
        Look::Task | Look::Graph => "box",
        Look::Prompt => "box prompt",
        Look::Gate => "box gate",
    }
    .to_owned();
    if node.is_danger {
        class.push_str(" danger");
    }
    let radius = if node.look == Look::Prompt { 14 } else { 5 };
    let mut out = format!("<g id=\"n{index}\"><title>{}</title>", escape(&tooltip(node)));
    let cards: &[f64] = if node.each.is_some() { &[2.0, 1.0, 0.0] } else { &[0.0] };
    let stack = if node.each.is_some() { 2.0 * CARD } else { 0.0 };
    for card in cards {
        let (x, y) = (left + card * CARD, top + stack - card * CARD);
        let (width, height) = (size.width - stack, size.height - stack);
        out.push_str(&if node.look == Look::Gate {
            diamond(&class, Point { x, y }, Size { width, height })
        } else {
            rectangle(&class, Point { x, y }, Size { width, height }, radius)
        });
    }
    if node.look == Look::Graph {
        let inner = Size { width: size.width - stack - 7.0, height: size.height - stack - 7.0 };
        out.push_str(&rectangle("frame", Point { x: left + 3.5, y: top + stack + 3.5 }, inner, 3));
    }
    let x = number(middle.x - stack / 2.0);
    let mut lines = vec![("name", title(node))];
    lines.extend(node.each.iter().map(|(_, each)| ("detail", each.clone())));
    lines.push(("detail", node.detail.clone()));
    if !node.marks.is_empty() {
        lines.push(("detail", marks(node)));
    }
    let above = match lines.len() {
        0..=2 => 3.0,
        3 => 10.0,
        _ => 17.5,
    };
    let mut y = top + stack + (size.height - stack) / 2.0 - above;
    for (class, text) in lines {
        out.extend([format!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{}\">{}</text>",
            number(y),
            escape(&bounded(&text, LONGEST))
        )]);
        y += 15.0;
    }
    out + "</g>"
}

fn rectangle(class: &str, at: Point, size: Size, radius: u32) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{radius}\"/>",
        number(at.x),
        number(at.y),
        number(size.width),
        number(size.height)
    )
}

/// A flat diamond: its sides lean in, so that there is room for the question.
fn diamond(class: &str, at: Point, size: Size) -> String {
    let (right, bottom, middle) = (at.x + size.width, at.y + size.height, at.y + size.height / 2.0);
    format!(
        "<path class=\"{class}\" d=\"M{l} {m}L{il} {t}L{ir} {t}L{r} {m}L{ir} {b}L{il} {b}Z\"/>",
        l = number(at.x),
        il = number(at.x + CORNER),
        ir = number(right - CORNER),
        r = number(right),
        t = number(at.y),
        m = number(middle),
        b = number(bottom)
    )
}

fn tooltip(node: &Shape) -> String {
    let mut text = format!("{}: {}", node.name, node.detail);
    if let Some((times, each)) = &node.each {
        text.extend([", ", each, " ", times]);
    }
    for mark in &node.marks {
        text.extend([", ", mark]);
    }
    if !node.description.is_empty() {
        text.extend([". ", &node.description]);
    }
    text
}

fn end_mark(class: &str, middle: Point) -> String {
    let (x, y) = (number(middle.x), number(middle.y));
    let (dot, ring) = if class == "end" { (MARK - 3.0, "ring") } else { (MARK, "") };
    let mut out =
        format!("<g><title>{class}</title><circle class=\"mark\" cx=\"{x}\" cy=\"{y}\" r=\"{dot}\"/>");
    if !ring.is_empty() {
        out.extend([format!("<circle class=\"{ring}\" cx=\"{x}\" cy=\"{y}\" r=\"{MARK}\"/>")]);
    }
    out + "</g>"
}

/// The line of an edge, with its head.
fn path(
    link: &Link,
    route: &Route,
    layout: &Layout,
    inner: &[Size],
    edge: Option<&Edge>,
    sizes: &[Size],
) -> String {
    let again = route.back || link.from == link.to;
    let class = match edge.map(|edge| edge.line) {
        Some(Line::Failing) => " fails",
        Some(Line::Chosen) => " chosen",
        Some(Line::Plain) | None if again => " again",
        None if link.from > inner.len() => " chosen",
        Some(Line::Plain) | None => "",
    };
    let (line, tip, direction) = if link.from == link.to {
        self_loop(link.from, layout, inner)
    } else {
        let mut points = route.points.clone();
        // A self-loop widens the room of its box, not the box: ends stay within the box.
        for (end, node) in [(0, link.from), (points.len().saturating_sub(1), link.to)] {
            let scale = match (inner.get(node), sizes.get(node), layout.boxes.get(node)) {
                (Some(small), Some(large), Some(middle)) if large.width > small.width => {
                    Some((small.width / large.width, middle.x))
                }
                _ => None,
            };
            if let (Some((scale, x)), Some(point)) = (scale, points.get_mut(end)) {
                point.x = x + (point.x - x) * scale;
            }
        }
        let direction = if route.back { -1.0 } else { 1.0 };
        let tip = points.last().copied().unwrap_or(Point { x: 0.0, y: 0.0 });
        (curve(&points, direction), tip, (0.0, direction))
    };
    let name = edge.map_or_else(
        || (if link.to < inner.len() && link.from == inner.len() { "start" } else { "last" }).to_owned(),
        |edge| format!("n{} {}", edge.from, edge.to.map_or_else(|| "end".to_owned(), |to| format!("n{to}"))),
    );
    format!(
        "<path class=\"edge{class}\" data-edge=\"{name}\" d=\"{line}\"/><path class=\"head{class}\" d=\"{}\"/>",
        arrow(tip, direction)
    )
}

/// A smooth line through points, one below the other, that leaves and enters vertically: a cubic whose
/// slope at each waypoint is that of its neighbours' connection, flattened where it turns.
fn curve(points: &[Point], direction: f64) -> String {
    let mut points = points.to_vec();
    // The line ends where the head begins.
    if let Some(last) = points.last_mut() {
        last.y -= direction * 7.0;
    }
    let slope = |index: usize| -> f64 {
        let around = index.checked_sub(1).and_then(|before| points.get(before)).zip(points.get(index + 1));
        let (Some(here), Some((before, after))) = (points.get(index), around) else { return 0.0 };
        let (one, two) = (here.x - before.x, after.x - here.x);
        if one * two <= 0.0 { 0.0 } else { (after.x - before.x) / (after.y - before.y) }
    };
    let mut out = String::new();
    for (index, to) in points.iter().enumerate() {
        let Some(from) = index.checked_sub(1).and_then(|before| points.get(before)) else {
            out = format!("M{} {}", number(to.x), number(to.y));
            continue;
        };
        // Ends stand upright for longer, so that the head points well.
        let third = (to.y - from.y) / if points.len() == 2 { 2.0 } else { 2.6 };
        let leave = from.x + slope(index - 1) * third;
        let enter = to.x - slope(index) * third;
        out.extend([
            format!("C{} {} ", number(leave), number(from.y + third)),
            format!("{} {} ", number(enter), number(to.y - third)),
            format!("{} {}", number(to.x), number(to.y)),
        ]);
    }
    out
}

fn self_loop(node: usize, layout: &Layout, inner: &[Size]) -> (String, Point, (f64, f64)) {
    let middle = layout.boxes.get(node).copied().unwrap_or(Point { x: 0.0, y: 0.0 });
    let half = inner.get(node).map_or(0.0, |size| size.width / 2.0);
    let side = middle.x + half;
    let (top, bottom) = (middle.y - 11.0, middle.y + 11.0);
    let line = format!(
        "M{s} {t}C{o} {u} {o} {d} {e} {b}",
        s = number(side),
        t = number(top),
        o = number(side + LOOP),
        u = number(top - 8.0),
        d = number(bottom + 8.0),
        e = number(side + 7.0),
        b = number(bottom)
    );
    (line, Point { x: side, y: bottom }, (-1.0, 0.0))
}

/// A triangle whose tip is at a point.
fn arrow(tip: Point, (dx, dy): (f64, f64)) -> String {
    let (back_x, back_y) = (tip.x - dx * 8.0, tip.y - dy * 8.0);
    format!(
        "M{} {}L{} {}L{} {}Z",
        number(tip.x),
        number(tip.y),
        number(back_x - dy * 4.0),
        number(back_y - dx * 4.0),
        number(back_x + dy * 4.0),
        number(back_y + dx * 4.0)
    )
}

fn label(edge: &Edge, route: &Route, from: Option<&Size>) -> Option<String> {
    if edge.label.is_empty() {
        return None;
    }
    let size = label_size(edge);
    let mut middle = route.label;
    if edge.to == Some(edge.from) {
        middle.x += from.map_or(0.0, |size| size.width / 2.0) + LOOP * 0.8 + size.width / 2.0;
    }
    Some(format!(
        "<g><title>{}</title><rect class=\"plate\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/>\
         <text class=\"label\" x=\"{}\" y=\"{}\">{}</text></g>",
        escape(&edge.label),
        number(middle.x - size.width / 2.0),
        number(middle.y - size.height / 2.0),
        number(size.width),
        number(size.height),
        number(middle.x),
        number(middle.y + 4.0),
        escape(&bounded(&edge.label, LONGEST))
    ))
}

/// One decimal is enough for a screen.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Text and attribute values; control characters, which XML does not have, are escapes by now.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Two that XML does not have either.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
