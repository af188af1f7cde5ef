//! Where things go in a picture: layers from top to bottom, as Sugiyama drew them.
//!
//! 1. Edges that lead back to a node on the way from the start are turned round, so that no cycle is left.
//! 2. Layers by longest path; nodes stand on even layers, labels of edges on odd ones. Where an edge passes a
//!    layer it has a waypoint, so that neither a node nor a label lies under it.
//! 3. Order within layers by barycentre, back edges leaning to the right side.
//! 4. Places by pulling everything towards its neighbours as far as there is room.

/// A box to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// An edge between boxes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Room for its label.
    pub(super) label: Size,
}

/// A place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// The way of an edge.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// From box to box, in the direction of the edge; empty for an edge from a box to itself.
    pub(super) points: Vec<Point>,
    /// Middle of the label.
    pub(super) label: Point,
    /// Whether it leads up.
    pub(super) back: bool,
}

/// A finished layout; boxes by their middle.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) boxes: Vec<Point>,
    pub(super) routes: Vec<Route>,
    pub(super) width: f64,
    pub(super) height: f64,
}

const GAP_X: f64 = 28.0;
const GAP_Y: f64 = 22.0;
const MARGIN: f64 = 24.0;
const WAYPOINT: f64 = 10.0;
/// Most waypoints; with more, edges go straight from box to box.
const MOST_WAYPOINTS: usize = 10_000;
const SWEEPS: usize = 12;
/// How far back edges lean to the right in the order of a layer.
const ASIDE: f64 = 0.6;

/// Something with a place in a layer: a box or a waypoint.
struct Item {
    layer: usize,
    size: Size,
    x: f64,
    up: Vec<usize>,
    down: Vec<usize>,
    /// Waypoint of an edge that leads back: leans to the right side.
    side: bool,
    waypoint: bool,
}

/// The way of an edge through the layers.
struct Chain {
    back: bool,
    /// Items from the upper box to the lower one.
    items: Vec<usize>,
    /// The one that carries the label.
    label: Option<usize>,
}

/// Lays out boxes and edges; a run starts at `start`, and `last`, if any, goes to the bottom.
pub(super) fn layout(sizes: &[Size], links: &[Link], start: usize, last: Option<usize>) -> Layout {
    let back = back_edges(sizes.len(), links, start);
    let levels = levels(sizes.len(), links, &back, last);
    let mut items: Vec<Item> =
        sizes.iter().zip(&levels).map(|(size, level)| item(level * 2, *size, false, false)).collect();
    let length = |link: &Link| at(&levels, link.from).abs_diff(at(&levels, link.to)) * 2;
    let direct = links.iter().map(length).sum::<usize>() > MOST_WAYPOINTS;
    let chains: Vec<Option<Chain>> =
        links.iter().zip(&back).map(|(link, back)| chain(link, *back, direct, &levels, &mut items)).collect();
    let mut layers = in_layers(&items);
    order(&mut layers, &mut items);
    place(&layers, &mut items);
    let tops = tops(&layers, &items);
    finish(sizes, &items, links, &chains, &tops)
}

fn item(layer: usize, size: Size, side: bool, waypoint: bool) -> Item {
    Item { layer, size, x: 0.0, up: Vec::new(), down: Vec::new(), side, waypoint }
}

/// Which edges lead back to a node that is still open in a search from the start. Self-loops are not among
/// them: they have no way through layers at all.
fn back_edges(count: usize, links: &[Link], start: usize) -> Vec<bool> {
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (index, link) in links.iter().enumerate() {
        if let Some(list) = out.get_mut(link.from) {
            list.push(index);
        }
    }
    let mut back = vec![false; links.len()];
    // 0 new, 1 open, 2 done
    let mut state = vec![0_u8; count];
    for root in std::iter::once(start).chain(0..count) {
        if state.get(root).copied() != Some(0) {
            continue;
        }
        let mut stack = vec![(root, 0)];
        set(&mut state, root, 1);
        while let Some((node, position)) = stack.last_mut() {
            let node = *node;
            let Some(link) = out.get(node).and_then(|list| list.get(*position)).copied() else {
                set(&mut state, node, 2);
                stack.pop();
                continue;
            };
            *position += 1;
            let Some(to) = links.get(link).map(|link| link.to).filter(|to| *to != node) else { continue };
            match state.get(to).copied() {
                Some(0) => {
                    set(&mut state, to, 1);
                    stack.push((to, 0));
                }
                Some(1) => set(&mut back, link, true),
                _ => {}
            }
        }
    }
    back
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    if let Some(place) = list.get_mut(index) {
        *place = value;
    }
}

fn at<T: Copy + Default>(list: &[T], index: usize) -> T {
    list.get(index).copied().unwrap_or_default()
}

/// Layers by longest path over the edges that are left; `last` below everything.
fn levels(count: usize, links: &[Link], back: &[bool], last: Option<usize>) -> Vec<usize> {
    let forward = || links.iter().zip(back).filter(|(link, back)| !**back && link.from != link.to);
    let mut level = vec![0; count];
    // Without cycles this settles after at most as many rounds as there are nodes.
    for _ in 0..count {
        let mut changed = false;
        for (link, _) in forward() {
            let wanted = at(&level, link.from) + 1;
            if at(&level, link.to) < wanted {
                set(&mut level, link.to, wanted);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    // Only what nothing leads out of can stand below everything.
    if let Some(last) = last.filter(|last| !forward().any(|(link, _)| link.from == *last)) {
        let deepest = level.iter().enumerate().filter(|(node, _)| *node != last).map(|(_, l)| *l).max();
        set(&mut level, last, deepest.map_or(0, |deepest| deepest + 1));
    }
    level
}

/// The waypoints of an edge; none for a self-loop.
fn chain(link: &Link, back: bool, direct: bool, levels: &[usize], items: &mut Vec<Item>) -> Option<Chain> {
    if link.from == link.to {
        return None;
    }
    let (upper, lower) = if back { (link.to, link.from) } else { (link.from, link.to) };
    let (first, end) = (at(levels, upper) * 2, at(levels, lower) * 2);
    let mut chain = vec![upper];
    // Labels stand on odd layers: a forward edge's just below where it starts, a back edge's in the middle.
    let label_layer = if back { (usize::midpoint(first, end) / 2) * 2 + 1 } else { first + 1 };
    let mut label = None;
    for layer in first + 1..if direct { 0 } else { end } {
        let is_label = layer == label_layer.min(end - 1);
        let size = Size {
            width: if is_label { link.label.width.max(WAYPOINT) } else { WAYPOINT },
            height: if is_label { link.label.height } else { 0.0 },
        };
        let index = items.len();
        items.push(item(layer, size, back, true));
        if is_label {
            label = Some(index);
        }
        chain.push(index);
    }
    chain.push(lower);
    for pair in chain.windows(2) {
        if let [above, below] = *pair {
            if let Some(item) = items.get_mut(above) {
                item.down.push(below);
            }
            if let Some(item) = items.get_mut(below) {
                item.up.push(above);
            }
        }
    }
    Some(Chain { back, items: chain, label })
}

fn in_layers(items: &[Item]) -> Vec<Vec<usize>> {
    let deepest = items.iter().map(|item| item.layer).max().unwrap_or(0);
    let mut layers = vec![Vec::new(); deepest + 1];
    for (index, item) in items.iter().enumerate() {
        if let Some(layer) = layers.get_mut(item.layer) {
            layer.push(index);
        }
    }
    layers
}

/// Orders each layer by the mean place of the neighbours, down and up again, and keeps the order with the
/// fewest crossings.
fn order(layers: &mut Vec<Vec<usize>>, items: &mut [Item]) {
    number(layers, items);
    let mut best = (crossings(layers, items), layers.clone());
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let count = layers.len();
        for step in 0..count {
            let index = if down { step } else { count - 1 - step };
            let Some(layer) = layers.get_mut(index) else { continue };
            let mut keyed: Vec<(f64, usize)> = layer
                .iter()
                .filter_map(|member| {
                    let item = items.get(*member)?;
                    let neighbours = if down { &item.up } else { &item.down };
                    let aside = if item.side { ASIDE } else { 0.0 };
                    Some((mean(neighbours, items).unwrap_or(item.x) + aside, *member))
                })
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *layer = keyed.iter().map(|(_, member)| *member).collect();
            number(std::slice::from_ref(layer), items);
        }
        let found = crossings(layers, items);
        if found < best.0 {
            best = (found, layers.clone());
        }
    }
    *layers = best.1;
    number(layers, items);
}

/// Writes each item's position in its layer where its place will be.
fn number(layers: &[Vec<usize>], items: &mut [Item]) {
    for layer in layers {
        let mut position = 0.0;
        for member in layer {
            if let Some(item) = items.get_mut(*member) {
                item.x = position;
                position += 1.0;
            }
        }
    }
}

fn mean(neighbours: &[usize], items: &[Item]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for neighbour in neighbours.iter().filter_map(|index| items.get(*index)) {
        sum += neighbour.x;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

fn crossings(layers: &[Vec<usize>], items: &[Item]) -> usize {
    let mut total = 0;
    for layer in layers {
        let mut pairs: Vec<(f64, f64)> = Vec::new();
        for item in layer.iter().filter_map(|member| items.get(*member)) {
            pairs.extend(item.down.iter().filter_map(|below| Some((item.x, items.get(*below)?.x))));
        }
        // Quadratic; a picture with so many edges is no picture.
        for (index, a) in pairs.iter().take(400).enumerate() {
            total += pairs.iter().take(index).filter(|b| (a.0 - b.0) * (a.1 - b.1) < 0.0).count();
        }
    }
    total
}

/// Gives every item a place: packed from the left first, then pulled towards its neighbours.
fn place(layers: &[Vec<usize>], items: &mut [Item]) {
    for layer in layers {
        let wanted: Vec<f64> = vec![0.0; layer.len()];
        settle(layer, &wanted, items);
    }
    for sweep in 0..SWEEPS * 4 {
        let down = sweep % 2 == 0;
        let count = layers.len();
        for step in 0..count {
            let index = if down { step } else { count - 1 - step };
            let Some(layer) = layers.get(index) else { continue };
            let wanted: Vec<f64> = layer
                .iter()
                .filter_map(|member| items.get(*member))
                .map(|item| {
                    let near = if down { &item.up } else { &item.down };
                    // One side first, so that things spread; then both, so that long edges become straight.
                    let one_side = (sweep < SWEEPS).then(|| pull(item, near, items)).flatten();
                    let both = || pull(item, item.up.iter().chain(&item.down), items);
                    one_side.or_else(both).unwrap_or(item.x)
                })
                .collect();
            settle(layer, &wanted, items);
        }
    }
    align(layers, items);
}

/// Puts what has one neighbour on each side of it exactly below the one above.
fn align(layers: &[Vec<usize>], items: &mut [Item]) {
    for layer in layers {
        let wanted: Vec<f64> = layer
            .iter()
            .filter_map(|member| items.get(*member))
            .map(|item| {
                let only = |list: &[usize]| match list {
                    [one] => items.get(*one),
                    _ => None,
                };
                // A waypoint moves only with a whole straight edge, or there would be a bend behind it.
                let straight = !item.waypoint || only(&item.down).is_some_and(|below| below.up.len() == 1);
                let above = only(&item.up).filter(|above| straight && above.down.len() == 1);
                above.map_or(item.x, |above| above.x)
            })
            .collect();
        settle(layer, &wanted, items);
    }
}

/// Where the neighbours would have an item; waypoints pull on each other most, which keeps edges straight.
fn pull<'n>(item: &Item, neighbours: impl IntoIterator<Item = &'n usize>, items: &[Item]) -> Option<f64> {
    let (mut sum, mut weights) = (0.0, 0.0);
    for neighbour in neighbours.into_iter().filter_map(|index| items.get(*index)) {
        let weight = match (item.waypoint, neighbour.waypoint) {
            (true, true) => 6.0,
            (true, false) | (false, true) => 2.0,
            (false, false) => 1.0,
        };
        sum += neighbour.x * weight;
        weights += weight;
    }
    (weights > 0.0).then(|| sum / weights)
}

/// Puts the items of a layer as near to the wanted places as their order and sizes allow: items that press
/// on each other form a block, which stands where its members want on average.
fn settle(layer: &[usize], wanted: &[f64], items: &mut [Item]) {
    struct Block {
        members: usize,
        /// Place of the first member.
        start: f64,
        /// Sum of the places that the members want the first one to have.
        sum: f64,
        /// From the first member's place to where the next item may stand, less its half width.
        extent: f64,
    }
    let half = |index: &usize, items: &[Item]| items.get(*index).map_or(0.0, |item| item.size.width / 2.0);
    let mut blocks: Vec<Block> = Vec::new();
    let mut before = 0.0;
    for (position, index) in layer.iter().enumerate() {
        let own = half(index, items);
        let mut block =
            Block { members: 1, start: at(wanted, position), sum: at(wanted, position), extent: 0.0 };
        let mut distance = before + GAP_X + own;
        while let Some(last) = blocks.last() {
            if last.start + last.extent + distance <= block.start {
                break;
            }
            // Both move as one: the second's wishes count from the first's start.
            let offset = last.extent + distance;
            let members = last.members + block.members;
            let sum = last.sum + block.sum - offset * to_f64(block.members);
            block = Block { members, start: sum / to_f64(members), sum, extent: offset + block.extent };
            blocks.pop();
            // Within the merged block the next neighbour to the left is that of its first member.
            let first = position + 1 - block.members;
            let left = first.checked_sub(1).and_then(|left| layer.get(left)).map_or(0.0, |i| half(i, items));
            distance = left + GAP_X + layer.get(first).map_or(0.0, |i| half(i, items));
        }
        blocks.push(block);
        before = own;
    }
    let mut position = 0;
    for block in blocks {
        let mut x = block.start;
        for member in 0..block.members {
            let Some(index) = layer.get(position) else { return };
            if member > 0 {
                let left = position.checked_sub(1).and_then(|left| layer.get(left));
                x += left.map_or(0.0, |i| half(i, items)) + GAP_X + half(index, items);
            }
            if let Some(item) = items.get_mut(*index) {
                item.x = x;
            }
            position += 1;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of boxes are small")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

/// Middle of each layer.
fn tops(layers: &[Vec<usize>], items: &[Item]) -> Vec<f64> {
    let mut y = MARGIN;
    layers
        .iter()
        .map(|layer| {
            let tallest = layer
                .iter()
                .filter_map(|index| items.get(*index))
                .map(|item| item.size.height)
                .fold(0.0, f64::max);
            let middle = y + tallest / 2.0;
            y += tallest + GAP_Y;
            middle
        })
        .collect()
}

/// Moves everything to the top left corner and joins the waypoints.
fn finish(sizes: &[Size], items: &[Item], links: &[Link], chains: &[Option<Chain>], tops: &[f64]) -> Layout {
    let left = items.iter().map(|item| item.x - item.size.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = items.iter().map(|item| item.x + item.size.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let (left, right) = if items.is_empty() { (0.0, 0.0) } else { (left, right) };
    let shift = MARGIN - left;
    let point = |index: usize| {
        items
            .get(index)
            .map_or(Point { x: 0.0, y: 0.0 }, |item| Point { x: item.x + shift, y: at(tops, item.layer) })
    };
    let bottom = items.iter().map(|item| at(tops, item.layer) + item.size.height / 2.0).fold(0.0, f64::max);
    let mut routes: Vec<Route> = links
        .iter()
        .zip(chains)
        .map(|(link, chain)| match chain {
            None => Route { points: Vec::new(), label: point(link.from), back: false },
            Some(chain) => Route {
                points: chain.items.iter().map(|index| point(*index)).collect(),
                label: chain.label.map_or_else(|| middle(point(link.from), point(link.to)), point),
                back: chain.back,
            },
        })
        .collect();
    ports(sizes, links, &mut routes);
    for route in routes.iter_mut().filter(|route| route.back) {
        route.points.reverse();
    }
    Layout {
        boxes: (0..sizes.len()).map(point).collect(),
        routes,
        width: right - left + 2.0 * MARGIN,
        height: bottom + MARGIN,
    }
}

fn middle(a: Point, b: Point) -> Point {
    Point { x: f64::midpoint(a.x, b.x), y: f64::midpoint(a.y, b.y) }
}

/// Spreads the ends of edges along the lower and upper sides of their boxes, in the order of where they go.
/// At this time every route leads down.
fn ports(sizes: &[Size], links: &[Link], routes: &mut [Route]) {
    for (node, size) in sizes.iter().enumerate() {
        for lower in [true, false] {
            let mut ends: Vec<(f64, usize)> = Vec::new();
            for (index, (link, route)) in links.iter().zip(routes.iter()).enumerate() {
                let upper_end = if route.back { link.to } else { link.from };
                let lower_end = if route.back { link.from } else { link.to };
                let next = if lower { route.points.get(1) } else { route.points.iter().rev().nth(1) };
                if let Some(next) = next.filter(|_| (if lower { upper_end } else { lower_end }) == node) {
                    ends.push((next.x, index));
                }
            }
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            let count = to_f64(ends.len());
            let step = (size.width / (count + 1.0)).min(36.0);
            for (position, (_, index)) in ends.iter().enumerate() {
                let Some(route) = routes.get_mut(*index) else { continue };
                let end = if lower { route.points.first_mut() } else { route.points.last_mut() };
                if let Some(end) = end {
                    end.x += (to_f64(position) - (count - 1.0) / 2.0) * step;
                    end.y += if lower { size.height / 2.0 } else { -size.height / 2.0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxes(count: usize) -> Vec<Size> {
        (0..count).map(|n| Size { width: 40.0 + 30.0 * to_f64(n % 5), height: 40.0 }).collect()
    }

    fn overlap(a: (Point, Size), b: (Point, Size)) -> bool {
        (a.0.x - b.0.x).abs() * 2.0 < a.1.width + b.1.width - 0.01
            && (a.0.y - b.0.y).abs() * 2.0 < a.1.height + b.1.height - 0.01
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_overlaps_and_nothing_is_outside(
            count in 1usize..14,
            pairs in prop::collection::vec((0usize..14, 0usize..14, 0.0..120.0f64), 0..30),
        ) {
            let label = |width: f64| if width > 40.0 { Size { width, height: 16.0 } } else { Size { width: 0.0, height: 0.0 } };
            let links: Vec<Link> = pairs
                .iter()
                .map(|(from, to, width)| Link { from: from % count, to: to % count, label: label(*width) })
                .collect();
            let sizes = boxes(count);
            let layout = layout(&sizes, &links, 0, Some(count - 1));
            let mut placed: Vec<(Point, Size)> = layout.boxes.iter().copied().zip(sizes.iter().copied()).collect();
            for (route, link) in layout.routes.iter().zip(&links) {
                prop_assert_eq!(route.points.is_empty(), link.from == link.to);
                if link.from != link.to && link.label.width > 0.0 {
                    placed.push((route.label, link.label));
                }
                for point in &route.points {
                    prop_assert!(point.x >= 0.0 && point.x <= layout.width && point.y >= 0.0 && point.y <= layout.height);
                }
                // Ends stand on the boxes they belong to.
                if let (Some(first), Some(last)) = (route.points.first(), route.points.last()) {
                    let near = |point: &Point, node: usize| {
                        let (middle, size) = (layout.boxes[node], sizes[node]);
                        (point.x - middle.x).abs() <= size.width / 2.0 && ((point.y - middle.y).abs() - size.height / 2.0).abs() < 0.01
                    };
                    prop_assert!(near(first, link.from) && near(last, link.to), "{:?}", route);
                }
            }
            for (index, a) in placed.iter().enumerate() {
                let inside = a.0.x - a.1.width / 2.0 >= -0.01 && a.0.x + a.1.width / 2.0 <= layout.width + 0.01;
                prop_assert!(inside && a.0.y >= 0.0 && a.0.y <= layout.height);
                for b in placed.iter().take(index) {
                    prop_assert!(!overlap(*a, *b), "{:?} {:?}", a, b);
                }
            }
        }
    }
}
