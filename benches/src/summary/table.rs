//! Tables that can be read as they are, and that are Markdown.

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One with these columns: the first is text, the others are numbers, unless `<` stands before their names.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { rows: vec![columns.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// All of it, and an empty line.
    pub(crate) fn render(mut self) -> String {
        let text: Vec<bool> = self.rows[0]
            .iter()
            .enumerate()
            .map(|(at, name)| at == 0 || name.starts_with('<'))
            .collect();
        for name in &mut self.rows[0] {
            *name = name.trim_start_matches('<').to_owned();
        }
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..text.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = widths.iter().zip(&text).enumerate().map(|(at, (&width, &text))| {
                let cell = row.get(at).map_or("", String::as_str);
                if text { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") }
            });
            format!("|{}\n", cells.collect::<String>())
        };
        let rule = widths.iter().zip(&text).map(|(&width, &text)| {
            let dashes = "-".repeat(width + 1);
            if text { format!("{dashes}-|") } else { format!("{dashes}:|") }
        });
        let mut out = line(&self.rows[0]);
        out += &format!("|{}\n", rule.collect::<String>());
        self.rows[1..].iter().for_each(|row| out += &line(row));
        out + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_text_stands_left() {
        let mut table = Table::new(&["path", "median", "<met"]);
        table.row(["direct", "87.3 µs", "yes"].map(String::from));
        table.row(["4 bare relays", "1 µs"].map(String::from));
        let expected = "\
| path          |  median | met |
|---------------|--------:|-----|
| direct        | 87.3 µs | yes |
| 4 bare relays |    1 µs |     |

";
        assert_eq!(table.render(), expected);
    }
}
