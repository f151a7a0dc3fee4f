//! How it looks.

use super::model::{Link, Model, Rates, Told};
use crate::harmless::harmless;
use crate::status::Status;
use crate::status::table::{age, bytes, count, headline, hop_of, micros, short};
use crate::status::used::Used;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize as _;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, Wrap};
use std::time::Duration;

/// Columns of the VMs: title and width. The first two are words.
const VMS: [(&str, u16); 9] = [
    ("VM", 16),
    ("side", 10),
    ("clients", 7),
    ("fullest quota", 13),
    ("requests/s", 10),
    ("events/s", 8),
    ("commits/s", 9),
    ("allocated", 9),
    ("hop 50%", 7),
];

/// Columns of what VMs tell of themselves.
const TOLD: [(&str, u16); 6] = [
    ("told by the VM", 16),
    ("agents", 10),
    ("frames/s", 10),
    ("damaged/s", 12),
    ("copied/s", 12),
    ("copied", 12),
];

/// Columns of the connections.
const LINKS: [(&str, u16); 9] = [
    ("VM", 16),
    ("connection", 10),
    ("age", 7),
    ("objects", 7),
    ("fullest quota", 13),
    ("requests/s", 10),
    ("events/s", 8),
    ("commits/s", 9),
    ("waiting", 10),
];

/// Draws all of it; `now` is the time since 1970.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, now: Duration) {
    let (vms, told) = (model.vms(), model.told());
    // With a header, and an empty line after it.
    let height = |rows: usize| Constraint::Length(if rows == 0 { 0 } else { rows as u16 + 2 });
    let [head, upper, middle, lower, foot] = Layout::vertical([
        Constraint::Length(3),
        height(vms.len()),
        height(told.len()),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from("q: leave").dim(), foot);
    let Some(status) = model.status() else {
        let text = match &model.trouble {
            Some(trouble) => format!("{}\nwaiting for it to be there", harmless(trouble)),
            None => "asking wlproxy".to_owned(),
        };
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), frame.area());
        return;
    };
    frame.render_widget(Paragraph::new(headline(status)), head);
    let rows = vms.iter().map(|(name, rates)| vm(status, name, rates));
    frame.render_widget(table(&VMS, 2, rows.collect(), upper.width), upper);
    if !told.is_empty() {
        frame.render_widget(
            table(&TOLD, 1, told.iter().map(self::told).collect(), middle.width),
            middle,
        );
    }

    let (links, more) = model.links();
    let room = usize::from(lower.height.saturating_sub(1));
    let hidden = more.saturating_add(links.len() as u64);
    let shown = if hidden > room as u64 { room.saturating_sub(1) } else { room };
    let shown = links.iter().take(shown);
    let mut rows: Vec<_> = shown.map(|link| self::link(status, link, now)).collect();
    let hidden = hidden.saturating_sub(rows.len() as u64);
    if hidden > 0 {
        rows.push(vec![format!("and {hidden} more")]);
    }
    frame.render_widget(table(&LINKS, 1, rows, lower.width), lower);
}

fn vm(status: &Status, name: &str, rates: &Rates) -> Vec<String> {
    let vm = &status.vms[name];
    let counters = &vm.counters;
    let clients = (counters.connections.len() as u64).saturating_add(counters.more_connections);
    let side = if vm.connected { vm.side.clone() } else { "not there".to_owned() };
    let mut row = vec![short(name), side, count(clients), fullest(Used::of_vm(vm))];
    row.extend([rates.requests, rates.events, rates.commits].map(rate));
    row.push(bytes(counters.allocation_bytes));
    row.push(micros(hop_of(vm).and_then(|(_, hop)| hop.percentile(50))));
    row
}

fn fullest(used: Option<Used>) -> String {
    used.map_or_else(|| "-".to_owned(), |used| used.to_string())
}

fn told(told: &Told<'_>) -> Vec<String> {
    let Told { vm, numbers, rates: [frames, damaged, copied] } = told;
    let per_second = |rate: f64| bytes(rate.round() as u64);
    vec![
        short(vm),
        count(numbers.agents),
        rate(*frames),
        per_second(*damaged),
        per_second(*copied),
        bytes(numbers.copied_bytes),
    ]
}

fn link(status: &Status, link: &Link<'_>, now: Duration) -> Vec<String> {
    let Link { vm, numbers, rates, waiting } = link;
    let used = status.vms.get(*vm).and_then(|vm| Used::of_client(vm, numbers));
    let mut row = vec![short(vm), numbers.connection.to_string(), age(numbers, now)];
    row.push(count(numbers.objects));
    row.push(fullest(used));
    row.extend([rates.requests, rates.events, rates.commits].map(rate));
    row.push(bytes(*waiting));
    row
}

fn rate(rate: f64) -> String {
    if rate == 0.0 || rate >= 10.0 { count(rate.round() as u64) } else { format!("{rate:.1}") }
}

/// So many columns of words, to the left, then numbers, to the right. Those for which there is no room are left out.
fn table(
    columns: &[(&'static str, u16)],
    words: usize,
    rows: Vec<Vec<String>>,
    width: u16,
) -> Table<'static> {
    let columns = &columns[..fitting(columns, width)];
    let aligned = move |(at, cell): (usize, String)| {
        let line = Line::from(cell);
        if at < words { line } else { line.right_aligned() }
    };
    let shown = columns.len();
    let titles = columns.iter().map(|(title, _)| (*title).to_owned());
    let head = Row::new(titles.enumerate().map(aligned).collect::<Vec<_>>()).bold();
    let rows = rows.into_iter().map(move |row| {
        Row::new(row.into_iter().take(shown).enumerate().map(aligned).collect::<Vec<_>>())
    });
    Table::new(rows, columns.iter().map(|(_, width)| Constraint::Length(*width))).header(head)
}

/// How many columns fit, with a gap between each two.
fn fitting(columns: &[(&str, u16)], width: u16) -> usize {
    let mut used = 0;
    let fits = columns.iter().take_while(|(_, column)| {
        used += column + 1;
        used <= width.saturating_add(1)
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{model, status};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::Instant;

    fn drawn(model: &Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, Duration::from_secs(65))).unwrap();
        let cells = terminal.backend().buffer().content();
        let line = |row: &[ratatui::buffer::Cell]| {
            row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
        };
        cells.chunks(width.into()).map(line).collect()
    }

    #[test]
    fn a_person_sees_who_does_how_much() {
        let lines = drawn(&model(), 100, 20);
        assert_eq!(lines[0], "compositor VM gui: takes clients");
        let work = lines.iter().position(|line| line.starts_with("work   ")).unwrap();
        let words: Vec<_> = lines[work].split_whitespace().collect();
        let expected = "work client 3 memory 1% 200 100 50 3.0 MiB -";
        assert_eq!(words.join(" "), expected);
        let head = lines.iter().position(|line| line.starts_with("told by the VM")).unwrap();
        let words: Vec<_> = lines[head + 1].split_whitespace().collect();
        let expected = ["work", "1", "50", "200.0", "KiB", "100.0", "KiB", "700.0", "KiB"];
        assert_eq!((words.as_slice(), lines[head + 2].as_str()), (&expected[..], ""));
        let head = lines.iter().position(|line| line.contains("connection ")).unwrap();
        let words: Vec<_> = lines[head + 1].split_whitespace().collect();
        assert_eq!(words.join(" "), "work 2 1m05s 0 requests 1% 200 100 50 2.0 KiB");
        assert!(lines[head + 2].contains("  1 "), "the quiet one comes after it");
        assert_eq!(lines[head + 3], "and 1 more");
        assert_eq!(lines[19], "q: leave");
    }

    #[test]
    fn small_windows_show_what_fits() {
        for (width, height) in [(1, 1), (20, 5), (40, 8), (100, 9), (300, 100)] {
            drawn(&model(), width, height);
        }
        let lines = drawn(&model(), 60, 14);
        assert!(lines[3].ends_with("fullest quota requests/s"), "{lines:#?}");
        assert_eq!(lines[12], "and 3 more", "{lines:#?}");
    }

    /// What a terminal has that nobody made larger.
    #[test]
    fn eighty_columns_show_who_is_about_to_have_too_much() {
        let lines = drawn(&model(), 80, 24);
        let heads: Vec<_> = lines.iter().filter(|line| line.starts_with("VM ")).collect();
        assert!(heads.iter().all(|head| head.contains("fullest quota")), "{lines:#?}");
        assert!(heads[0].ends_with("commits/s") && heads[1].ends_with("events/s"), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("requests 1%")), "{lines:#?}");
    }

    #[test]
    fn a_wlproxy_that_is_gone_is_told_of() {
        let mut model = Model::default();
        assert_eq!(drawn(&model, 60, 5)[0], "asking wlproxy");
        model.update(Err("nobody listens\u{1b}[2J".to_owned()), Instant::now());
        let lines = drawn(&model, 60, 5);
        assert_eq!(lines[..2], ["nobody listens\u{fffd}[2J", "waiting for it to be there"]);
        model.update(Ok(status(1)), Instant::now());
        assert!(drawn(&model, 60, 5)[0].starts_with("compositor VM gui"));
    }

    #[test]
    fn a_hundred_columns_are_enough() {
        for columns in [&VMS[..], &TOLD, &LINKS] {
            let gaps = columns.len() as u16 - 1;
            assert!(columns.iter().map(|(_, width)| width).sum::<u16>() + gaps <= 100);
            assert!(columns.iter().all(|(title, width)| title.len() <= usize::from(*width)));
        }
    }

    #[test]
    fn rates_are_short() {
        assert_eq!([0.0, 0.25, 9.96, 10.4, 1e7].map(rate), ["0", "0.2", "10.0", "10", "10.0M"]);
    }
}
