//! Text in columns.

use std::fmt;

/// A table with headings of two lines; the first column is aligned to the left, the others to the right.
#[derive(Debug)]
pub struct Table<const COLUMNS: usize> {
    headings: [[String; COLUMNS]; 2],
    rows: Vec<[String; COLUMNS]>,
}

const GAP: usize = 2;

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub fn new(headings: &[[&str; 2]; COLUMNS]) -> Self {
        Self {
            headings: [headings.map(|lines| lines[0].to_owned()), headings.map(|lines| lines[1].to_owned())],
            rows: Vec::new(),
        }
    }

    pub fn add(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    fn lines(&self) -> impl Iterator<Item = &[String; COLUMNS]> {
        self.headings.iter().chain(&self.rows)
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; COLUMNS];
        for line in self.lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in self.lines() {
            let mut text = String::new();
            for (at, (cell, width)) in line.iter().zip(widths).enumerate() {
                let gap = if at == 0 { 0 } else { GAP };
                let space = width - cell.chars().count();
                let (before, after) = if at == 0 { (0, space) } else { (gap + space, 0) };
                text.extend(std::iter::repeat_n(' ', before));
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', after));
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[["", "mode"], ["per", "s"], ["", "x"]]);
        table.add(["native".to_owned(), "1,000".to_owned(), "±2%".to_owned()]);
        table.add(["cold".to_owned(), "7".to_owned(), "-".to_owned()]);
        let shown = "          per\nmode        s    x\nnative  1,000  ±2%\ncold        7    -\n";
        assert_eq!(table.to_string(), shown);
    }
}
