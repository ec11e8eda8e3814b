//! How it looks. Names were made printable before; colours are those that every terminal has, and say
//! nothing that is not said in words, too.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};

use super::{
    picture::{Order, Picture, Row},
    state::{KEYS, Pane, State},
};
use crate::{
    live::{Health, Window},
    output::{byte_size, grouped, percent, printable},
    profile::{FrameClass, view::Processes},
};

/// What is told besides the rows.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    pub(super) title: &'a str,
    pub(super) url: &'a str,
    pub(super) health: Health,
    /// The last thing that was complained about.
    pub(super) complaint: &'a str,
    pub(super) colours: bool,
}

pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, picture: &Picture, told: &Told<'_>) {
    let heights = [
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ];
    let [head, columns, list, foot] = Layout::vertical(heights).areas(frame.area());
    state.fit(list.height.into());
    frame.render_widget(Paragraph::new(heading(state, picture, told)), head);
    let heading = Style::new().add_modifier(Modifier::REVERSED);
    let columns_text = format!("{:<width$}", titles(state), width = columns.width.into());
    frame.render_widget(Paragraph::new(Line::styled(columns_text, heading)), columns);
    let rows = state.rows.iter().enumerate().skip(state.top);
    let lines = rows.take(list.height.into()).map(|(index, row)| {
        let line = row_line(state, picture, row, told.colours);
        match index == state.selected {
            true => line.style(Style::new().add_modifier(Modifier::REVERSED)),
            false => line,
        }
    });
    let lines: Vec<Line<'_>> = match picture.samples() {
        0 => vec![Line::raw("no samples in this time")],
        _ => lines.collect(),
    };
    frame.render_widget(Paragraph::new(lines), list);
    frame.render_widget(Paragraph::new(footer(state, told)), foot);
    if state.help {
        help(frame);
    }
}

fn heading<'a>(state: &State, picture: &Picture, told: &Told<'a>) -> Vec<Line<'a>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let health = &told.health;
    let window = match state.window {
        Window::Start => "since start".to_owned(),
        Window::Last(time) if time.as_secs() < 60 => format!("last {} s", time.as_secs()),
        Window::Last(time) => format!("last {} min", time.as_secs() / 60),
        Window::Slots(..) => String::new(),
    };
    let paused = if state.paused { ", PAUSED" } else { "" };
    let mut shown = format!(
        "{}{paused}: {window}, {} samples",
        printable(told.title),
        grouped(picture.samples())
    );
    if state.search.is_active() {
        let matched = picture.matched(|name| state.search.matches(name));
        let matched = share(matched, picture.weight());
        let text = printable(&state.search.text);
        shown.push_str(&format!(", {matched} % match /{text}/"));
    }
    let complete = share(health.complete, health.delivered);
    vec![
        Line::raw(told.url),
        Line::raw(format!(
            "{} samples/s, {} lost, {complete} % complete; stackwalk: {:.0} % CPU, {}",
            grouped(health.rate),
            grouped(health.lost),
            health.cpu * 100.0,
            byte_size(health.memory),
        )),
        Line::styled(shown, bold),
    ]
}

fn titles(state: &State) -> String {
    let processes = match state.view.processes {
        Processes::Name => "",
        Processes::Id => ", by PID",
        Processes::Thread => ", by thread name",
        Processes::Merged => ", processes merged",
    };
    let view = state.view;
    let hidden = [
        (view.kernel, ", no kernel"),
        (view.user, ", no user"),
        (view.inlined, ", no inlined"),
        (state.markers, ", no changes of stack"),
        (!view.apart, ", interrupts apart"),
    ];
    let hidden = hidden.into_iter().filter(|(usual, _)| !usual);
    let hidden: String = hidden.map(|(_, text)| text).collect();
    let what = match (state.pane, state.order) {
        (Pane::Functions, Order::Own) => "functions by own share",
        (Pane::Functions, Order::Total) => "functions by total share",
        (Pane::Tree, _) => "calls",
    };
    format!("  own %  total %  on         {what}{processes}{hidden}")
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.2}", percent(part, whole))
}

fn row_line<'a>(state: &State, picture: &Picture, row: &Row, colours: bool) -> Line<'a> {
    let (kind, colour) = kind(row.class);
    let style = match colours {
        true => Style::new().fg(colour),
        false => Style::new(),
    };
    let weights = format!(
        "{:>7} {:>8}  ",
        share(row.own, picture.weight()),
        share(row.total, picture.weight())
    );
    let mark = match (state.pane, row.has_children, row.open) {
        (Pane::Functions, ..) => "",
        (Pane::Tree, true, true) => "- ",
        (Pane::Tree, true, false) => "+ ",
        (Pane::Tree, false, _) => "  ",
    };
    let name = match state.search.matches(&row.name) {
        true => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        false => Style::new(),
    };
    Line::from(vec![
        Span::raw(weights),
        Span::styled(format!("{kind:<10} "), style),
        // Very deep stacks are still told apart, and their names still seen.
        Span::raw(" ".repeat(row.depth.min(40))),
        Span::raw(mark),
        Span::styled(row.name.clone(), name),
    ])
}

/// Where code runs, and the colour of that: warm for what runs by itself, cold for interrupts.
fn kind(class: FrameClass) -> (&'static str, Color) {
    match class {
        FrameClass::Process => ("process", Color::Reset),
        FrameClass::User => ("user", Color::Yellow),
        FrameClass::Kernel(kind) => match kind.name() {
            name @ ("task" | "TASK") => (name, Color::Red),
            name => (name, Color::Cyan),
        },
        FrameClass::Marker(_) => ("stack", Color::Magenta),
        FrameClass::Event => ("event", Color::Reset),
        FrameClass::Note => ("note", Color::Reset),
    }
}

fn footer<'a>(state: &State, told: &Told<'a>) -> Line<'a> {
    if let Some(typed) = &state.typed {
        return Line::raw(format!("/{}_   Enter: search, Esc: not", printable(typed)));
    }
    if !told.complaint.is_empty() {
        return Line::raw(printable(told.complaint));
    }
    Line::raw("Tab pane  1-4 window  Space pause  / search  s sort  kuimlp toggles  ? keys  q end")
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let width = area.width.min(74);
    let height = area.height.min(KEYS.len() as u16 + 2);
    let area = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line<'_>> = { KEYS.iter() }
        .map(|(key, what)| Line::raw(format!(" {key:<23} {what}")))
        .collect();
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" keys ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
