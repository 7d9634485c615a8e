//! Charts as SVG: geometry in attributes, colours by classes, so that they keep to the page's policy, its colours and its
//! printer. Behind each is a table with the same numbers.

use std::fmt::Write;

use maud::{Markup, html};

const WIDTH: u64 = 960;
const HEIGHT: u64 = 220;
const LEFT: u64 = 56;
const BOTTOM: u64 = 24;
/// Space above the highest value.
const TOP: u64 = 12;

/// One column of a chart of stacked columns.
pub(super) struct Column {
    /// What stands below it, and in its title.
    pub(super) label: String,
    /// Class and value of each part, the lowest first.
    pub(super) parts: Vec<(&'static str, u64)>,
}

/// Stacked columns.
pub(super) fn columns(title: &str, columns: &[Column]) -> Markup {
    let most = columns.iter().map(|it| it.parts.iter().map(|part| part.1).sum::<u64>()).max().unwrap_or(0);
    let scale = Scale::up_to(most);
    let step = (WIDTH - LEFT) * 100 / u64::try_from(columns.len().max(1)).unwrap_or(1);
    let width = (step * 8 / 10).max(100);
    frame(
        title,
        &scale,
        &|value| value.to_string(),
        &html! {
            @for (number, column) in (0_u64..).zip(columns) {
                g {
                    title { (column.label) ": " (told(&column.parts)) }
                    @for (class, y, height) in stacked(&scale, &column.parts) {
                        rect class=(class) x=(hundredths(LEFT * 100 + number * step)) y=(y) width=(hundredths(width)) height=(height) {}
                    }
                }
            }
            (labels(columns.iter().map(|it| it.label.as_str()), step))
        },
    )
}

fn told(parts: &[(&'static str, u64)]) -> String {
    let parts = parts.iter().filter(|(_, value)| *value > 0).map(|(class, value)| format!("{class} {value}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn stacked(scale: &Scale, parts: &[(&'static str, u64)]) -> Vec<(&'static str, u64, u64)> {
    let (mut below, mut found) = (0, Vec::new());
    for (class, value) in parts.iter().filter(|(_, value)| *value > 0) {
        let (low, high) = (scale.y(below), scale.y(below + value));
        // What there is can be seen, however little it is.
        found.push((*class, high.min(low.saturating_sub(2)), (low - high).max(2)));
        below += value;
    }
    found
}

/// One line of a chart of lines: a value for each label, or none.
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) values: Vec<Option<u64>>,
}

/// Lines over the same labels, and a limit.
pub(super) fn lines(
    title: &str,
    names: &[String],
    lines: &[Line],
    limit: Option<u64>,
    shown: &dyn Fn(u64) -> String,
) -> Markup {
    let most = lines.iter().flat_map(|line| &line.values).flatten().copied().chain(limit).max().unwrap_or(0);
    let scale = Scale::up_to(most);
    let step = (WIDTH - LEFT) * 100 / u64::try_from(names.len().max(1)).unwrap_or(1);
    frame(
        title,
        &scale,
        shown,
        &html! {
            @if let Some(limit) = limit {
                line class="limit" x1=(LEFT) x2=(WIDTH) y1=(scale.y(limit)) y2=(scale.y(limit)) { title { (shown(limit)) } }
            }
            @for line in lines { path class=(line.class) d=(path(&scale, &line.values, step)) {} }
            @for line in lines {
                @for (number, value) in (0_u64..).zip(&line.values) {
                    @if let Some(value) = value {
                        circle class=(line.class) cx=(hundredths(LEFT * 100 + number * step + step / 2)) cy=(scale.y(*value)) r="3" {
                            title { (names[usize::try_from(number).unwrap_or_default()]) ": " (line.class) " " (shown(*value)) }
                        }
                    }
                }
            }
            (labels(names.iter().map(String::as_str), step))
        },
    )
}

/// Where there is no value, the line is broken.
fn path(scale: &Scale, values: &[Option<u64>], step: u64) -> String {
    let (mut text, mut is_drawn) = (String::new(), false);
    for (number, value) in (0_u64..).zip(values) {
        if let Some(value) = value {
            let x = hundredths(LEFT * 100 + number * step + step / 2);
            let _ = write!(text, "{}{x} {} ", if is_drawn { 'L' } else { 'M' }, scale.y(*value));
        }
        is_drawn = value.is_some();
    }
    text
}

fn frame(title: &str, scale: &Scale, shown: &dyn Fn(u64) -> String, content: &Markup) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(title) {
            svg class="chart" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(title) {
                @for value in scale.marks() {
                    line class="grid" x1=(LEFT) x2=(WIDTH) y1=(scale.y(value)) y2=(scale.y(value)) {}
                    text class="mark" x=(LEFT - 6) y=(scale.y(value) + 4) text-anchor="end" { (shown(value)) }
                }
                (content)
            }
        }
    }
}

/// At most twelve labels, so that they do not lie on each other.
fn labels<'a>(names: impl ExactSizeIterator<Item = &'a str>, step: u64) -> Markup {
    let every = names.len().div_ceil(12).max(1);
    html! {
        @for (number, name) in (0_u64..).zip(names) {
            @if number % every as u64 == 0 {
                text class="mark" x=(hundredths(LEFT * 100 + number * step + step / 2)) y=(HEIGHT - 6) text-anchor="middle" { (name) }
            }
        }
    }
}

/// A length with two digits behind the point.
fn hundredths(length: u64) -> String {
    format!("{}.{:02}", length / 100, length % 100)
}

/// From zero to a round number above the largest value.
struct Scale {
    top: u64,
}

impl Scale {
    fn up_to(most: u64) -> Self {
        let mut power = 1;
        while most > power * 10 {
            power *= 10;
        }
        let round = [1, 2, 4, 6, 8, 10].into_iter().map(|it| it * power).find(|top| *top >= most);
        Self { top: round.unwrap_or(most).max(4) }
    }

    fn y(&self, value: u64) -> u64 {
        let height = HEIGHT - BOTTOM - TOP;
        HEIGHT - BOTTOM - value.min(self.top).saturating_mul(height) / self.top
    }

    fn marks(&self) -> [u64; 5] {
        [0, 1, 2, 3, 4].map(|quarter| self.top / 4 * quarter + self.top % 4 * quarter / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_value_lies_inside_the_frame(values in proptest::collection::vec(0_u64..1_000_000_000_000, 1..40)) {
            let most = *values.iter().max().unwrap();
            let scale = Scale::up_to(most);

            assert!(scale.top >= most && scale.top <= most.max(4) * 10);
            assert!(values.iter().all(|value| (TOP..=HEIGHT - BOTTOM).contains(&scale.y(*value))));
        }
    }

    #[test]
    fn a_line_is_broken_where_nothing_was() {
        let scale = Scale::up_to(10);

        let drawn = path(&scale, &[Some(1), Some(2), None, Some(3)], 1000);

        assert_eq!((drawn.matches('M').count(), drawn.matches('L').count()), (2, 1));
    }

    #[test]
    fn the_smallest_failure_can_be_seen() {
        let scale = Scale::up_to(1_000_000);

        assert!(stacked(&scale, &[("ok", 999_999), ("ours", 1)]).iter().all(|(_, _, height)| *height >= 2));
    }
}
