  ;; What both canaries have in common: the fields of a core module that looks at each kind of state that a module has,
  ;; says what it sees, leaves a mark there, and ends as it was told. `canary.rs` puts numbers in place of PAGES,
  ;; STRIDE (how far apart the marks are in memory, bytes), LESS (one less) and MASK (its multiples).

  ;; Page 0 is for this program's own work, page 1 begins with data, the others are empty.
  (data (i32.const 0) "  pages=  image= memory=  grown=    i32=    i64=    f32=    f64=")
  (data (i32.const 64) "   v128=    ref=  table=  tsize=")
  (data (i32.const 96) "  other=  start=  stdin=    env= handle= random=  clock=   data=")
  (data (i32.const 65536) "image123")
  (data $passive "passive!")

  (global $i32 (mut i32) (i32.const 1))
  (global $i64 (mut i64) (i64.const 2))
  (global $f32 (mut f32) (f32.const 3))
  (global $f64 (mut f64) (f64.const 4))
  (global $v128 (mut v128) (v128.const i64x2 5 6))
  (global $ref (mut funcref) (ref.null func))
  (table $table 8 funcref)
  (table $other 4 funcref)
  (elem (table $table) (i32.const 0) func $leave_marks)
  (elem $elements func $leave_marks $started)

  ;; Counts how often this instance was started: in a global, and in memory.
  (global $starts (mut i32) (i32.const 0))
  (func $started
    (global.set $starts (i32.add (global.get $starts) (i32.const 1)))
    (i32.store (i32.const 800) (i32.add (i32.load (i32.const 800)) (i32.const 1))))
  (start $started)

  ;; Where the next byte of the answer goes.
  (global $at (mut i32) (i32.const 1024))

  (func $say_what_is_seen (local $first i32)
    (call $say (i32.const 0) (i64.extend_i32_u (memory.size)))
    (call $say (i32.const 8) (i64.load (i32.const 65536)))
    (call $say (i32.const 16) (call $marked (i32.const 65544) (i32.shl (memory.size) (i32.const 16))))
    (local.set $first (memory.grow (i32.const 2)))
    (call $say (i32.const 24) (call $marked
      (i32.shl (local.get $first) (i32.const 16)) (i32.shl (memory.size) (i32.const 16))))
    (call $say (i32.const 32) (i64.extend_i32_u (global.get $i32)))
    (call $say (i32.const 40) (global.get $i64))
    (call $say (i32.const 48) (i64.extend_i32_u (i32.reinterpret_f32 (global.get $f32))))
    (call $say (i32.const 56) (i64.reinterpret_f64 (global.get $f64)))
    (call $say (i32.const 64)
      (i64.xor (i64x2.extract_lane 0 (global.get $v128)) (i64x2.extract_lane 1 (global.get $v128))))
    (call $say (i32.const 72) (i64.extend_i32_u (ref.is_null (global.get $ref))))
    (call $say (i32.const 80) (i64.extend_i32_u (call $set_entries)))
    (call $say (i32.const 88) (i64.extend_i32_u (table.size $table)))
    (call $say (i32.const 96) (i64.extend_i32_u (call $set_in_other)))
    (call $say (i32.const 104) (i64.extend_i32_u
      (i32.add (i32.shl (global.get $starts) (i32.const 8)) (i32.load (i32.const 800)))))
    ;; Both trap if the segment was dropped.
    (memory.init $passive (i32.const 808) (i32.const 0) (i32.const 8))
    (table.init $other $elements (i32.const 0) (i32.const 0) (i32.const 1))
    (call $say (i32.const 152) (i64.load (i32.const 808)))
    (call $say (i32.const 136) (call $host_random))
    (call $say (i32.const 144) (call $host_clock)))

  ;; "k" keeps the segments: what else is left can be seen then.
  (func $leave_marks (param $order i32) (local $at i32) (local $last i32)
    (local.set $at (i32.const 65536))
    (local.set $last (i32.shl (memory.size) (i32.const 16)))
    (loop $next
      (i64.store (local.get $at) (i64.const 0xa5a5a5a5a5a5a5a5))
      (local.set $at (i32.add (local.get $at) (i32.const STRIDE)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $last))))
    (global.set $i32 (i32.add (global.get $i32) (i32.const 1)))
    (global.set $i64 (i64.add (global.get $i64) (i64.const 1)))
    (global.set $f32 (f32.add (global.get $f32) (f32.const 1)))
    (global.set $f64 (f64.add (global.get $f64) (f64.const 1)))
    (global.set $v128 (i64x2.add (global.get $v128) (v128.const i64x2 1 2)))
    (global.set $ref (ref.func $leave_marks))
    (i32.store (i32.const 800) (i32.add (i32.load (i32.const 800)) (i32.const 1)))
    (table.set $table (i32.const 2) (ref.func $leave_marks))
    (table.fill $table (i32.const 5) (ref.func $started) (i32.const 2))
    (drop (table.grow $table (ref.func $leave_marks) (i32.const 3)))
    (table.copy $other $table (i32.const 1) (i32.const 5) (i32.const 2))
    (if (i32.ne (local.get $order) (i32.const 0x6b)) (then
      (data.drop $passive)
      (elem.drop $elements))))

  ;; How many of the places that are marked in memory, from the first address up to the last, are not empty.
  (func $marked (param $at i32) (param $last i32) (result i64) (local $count i64)
    ;; The places of the marks: page 1 begins with one.
    (local.set $at (i32.and (i32.add (local.get $at) (i32.const LESS)) (i32.const MASK)))
    (loop $next
      (local.set $count (i64.add (local.get $count)
        (i64.extend_i32_u (i64.ne (i64.load (local.get $at)) (i64.const 0)))))
      (local.set $at (i32.add (local.get $at) (i32.const STRIDE)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $last))))
    (local.get $count))

  (func $set_entries (result i32) (local $entry i32) (local $count i32)
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $table (local.get $entry))))
        (then (local.set $count (i32.add (local.get $count) (i32.const 1)))))
      (local.set $entry (i32.add (local.get $entry) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $entry) (table.size $table))))
    (local.get $count))

  (func $set_in_other (result i32)
    (i32.add
      (i32.eqz (ref.is_null (table.get $other (i32.const 1))))
      (i32.eqz (ref.is_null (table.get $other (i32.const 2))))))

  ;; Before the answer: "t" traps, "s" spins, "w" waits.
  (func $end_early (param $order i32)
    (if (i32.eq (local.get $order) (i32.const 0x74)) (then unreachable))
    (if (i32.eq (local.get $order) (i32.const 0x73)) (then (call $spin)))
    (if (i32.eq (local.get $order) (i32.const 0x77)) (then (call $host_wait))))

  ;; After it: "T", "S" and "W" do the same.
  (func $end_late (param $order i32)
    (if (i32.eq (local.get $order) (i32.const 0x54)) (then unreachable))
    (if (i32.eq (local.get $order) (i32.const 0x53)) (then (call $spin)))
    (if (i32.eq (local.get $order) (i32.const 0x57)) (then (call $host_wait))))

  (func $spin (loop $forever (br $forever)))

  ;; "m" takes memory until it is refused some, before the answer.
  (func $take_memory (param $order i32) (local $page i32)
    (if (i32.ne (local.get $order) (i32.const 0x6d)) (then return))
    (loop $next
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.ne (local.get $page) (i32.const -1)) (then
        (i64.store (i32.shl (local.get $page) (i32.const 16)) (i64.const -1))
        (br $next)))))

  ;; Adds a name of eight bytes and sixteen hexadecimal digits to the answer.
  (func $say (param $name i32) (param $value i64) (local $digits i32) (local $digit i32)
    (memory.copy (global.get $at) (local.get $name) (i32.const 8))
    (global.set $at (i32.add (global.get $at) (i32.const 8)))
    (loop $next
      (local.set $value (i64.rotl (local.get $value) (i64.const 4)))
      (local.set $digit (i32.and (i32.wrap_i64 (local.get $value)) (i32.const 15)))
      (i32.store8 (global.get $at)
        (i32.add (local.get $digit)
          (select (i32.const 0x57) (i32.const 0x30) (i32.gt_u (local.get $digit) (i32.const 9)))))
      (global.set $at (i32.add (global.get $at) (i32.const 1)))
      (local.set $digits (i32.add (local.get $digits) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $digits) (i32.const 16)))))
