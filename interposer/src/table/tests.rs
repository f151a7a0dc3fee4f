use super::*;

const RECORD: Record = Record {
    id: 1,
    connection: 1,
    kept: 900,
    kept_file: crate::raw::FileId { device: 0, inode: 0 },
    file_size: 100_000,
    len: 102_400,
    position: 0,
    flags: 0,
    seals: 0,
    mode: 0,
    name: [0; NAME],
    fds: 0,
    on_the_way: 0,
    sent: 0,
};

fn range(start: usize, len: usize) -> Range {
    Range { start, len }
}

/// The counters are the process's: one test at a time.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    [&PIECES, &RECORDS, &CANDIDATES].iter().for_each(|count| count.store(0, Relaxed));
    guard
}

fn pieces(table: &Table) -> Vec<(usize, usize, usize)> {
    let mut pieces: Vec<_> =
        table.pieces().map(|piece| (piece.range.start, piece.range.len, piece.offset)).collect();
    pieces.sort();
    assert_eq!(PIECES.load(Relaxed), pieces.len());
    pieces
}

#[test]
fn each_fd_is_what_it_was_set_to() {
    let fds = Fds::new();
    let table = [(3, Kind::Lent(0)), (5, Kind::Lent(MAX_RECORDS - 1)), (700, Kind::Ours)];
    for (fd, kind) in table {
        assert!(!fds.knows(fd));
        fds.set(fd, kind);
        assert_eq!(fds.kind(fd), kind);
    }
    assert_eq!(fds.known(0, u32::MAX).collect::<Vec<_>>(), [3, 5, 700]);
    assert_eq!(fds.known(4, 699).collect::<Vec<_>>(), [5]);
    assert_eq!(fds.known(u32::MAX, 0).count(), 0);
    for outside in [-1, c_int::MIN, MAX_FD as c_int, c_int::MAX] {
        fds.set(outside, Kind::Ours);
        assert!(!fds.knows(outside) && !Fds::has_room_for(outside), "{outside}");
    }
}

#[test]
fn pieces_are_what_is_left_of_mappings() {
    let _alone = alone();
    let mut table = Table::new();
    let number = table.add(RECORD).unwrap();
    let map = |table: &mut Table, start| {
        assert!(table.map(Piece { record: number, range: range(start, 0x5000), offset: 0 }));
    };
    map(&mut table, 0x10000);
    map(&mut table, 0x20000);
    table.unmap(range(0x15000, 0xb000));
    assert_eq!(pieces(&table), [(0x10000, 0x5000, 0), (0x20000, 0x5000, 0)], "beside them");
    table.unmap(range(0x14000, 0xd000));
    assert_eq!(pieces(&table), [(0x10000, 0x4000, 0), (0x21000, 0x4000, 0x1000)]);
    table.unmap(range(0x22000, 0x1000));
    let both = [(0x21000, 0x1000, 0x1000), (0x23000, 0x2000, 0x3000)];
    assert_eq!(pieces(&table)[1..], both);
    table.unmap(range(0, usize::MAX));
    assert_eq!(pieces(&table), []);
    map(&mut table, 0x10000);
    table.remove(number);
    assert_eq!((pieces(&table), RECORDS.load(Relaxed)), (vec![], 0));
}

#[test]
fn there_is_so_much_room() {
    let _alone = alone();
    let mut table = Table::new();
    for number in 0..MAX_RECORDS {
        assert_eq!((table.has_room(MAX_PIECES), table.add(RECORD)), (true, Some(number)));
    }
    assert_eq!((table.has_room(0), table.add(RECORD)), (false, None));
    table.remove(7);
    assert!(table.has_room(MAX_PIECES) && !table.has_room(MAX_PIECES + 1));
    let piece = |i: usize| Piece { record: 1, range: range(0x10000 * i, 0x3000), offset: 0 };
    assert!((0..MAX_PIECES).all(|i| table.map(piece(i))));
    assert!(!table.free_pieces() > 0 && !table.map(piece(MAX_PIECES)));
    // No room for one more, but for what gets shorter.
    assert!(!table.unmap(range(0x1000, 0x1000)));
    assert!(table.unmap(range(0x1000, 0x2000)));
    assert!(table.unmap(range(0x10000, 0x3000)) && table.unmap(range(0x21000, 0x1000)));
    assert_eq!(table.pieces().count(), MAX_PIECES);
    table.clear();
    assert_eq!((pieces(&table), table.records().count()), (vec![], 0));
}

#[test]
fn the_oldest_candidates_are_forgotten() {
    let _alone = alone();
    let mut candidates = Candidates::new();
    let file = |inode| FileId { device: 1, inode };
    (0..MAX_CANDIDATES as u64 + 1).for_each(|inode| candidates.add(file(inode)));
    assert!(!candidates.has(file(0)) && candidates.has(file(1)) && candidates.has(file(32)));
    assert!(!candidates.has(FileId { device: 2, inode: 1 }));
    assert_eq!(CANDIDATES.load(Relaxed), MAX_CANDIDATES);
    candidates.remove(file(1));
    assert!(!candidates.has(file(1)));
    assert_eq!(CANDIDATES.load(Relaxed), MAX_CANDIDATES - 1);
    candidates.clear();
    assert_eq!((candidates.has(file(5)), CANDIDATES.load(Relaxed)), (false, 0));
}
