;; A CGI command that looks at each kind of state that a core module has, prints what it sees, leaves a mark there,
;; and ends as the first byte of the request's body says: nothing or "a" answers, "t" traps, "s" spins, "w" waits,
;; "x" exits with a failure, "m" takes memory until it is refused some. "T", "S" and "W" answer before they do.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; Page 0 is for this program's own work, page 1 begins with data, the others are empty.
  (memory (export "memory") 20)
  (data (i32.const 0) "  pages=  image= memory=  grown=    i32=    i64=    f32=    f64=   v128=    ref=  table=  tsize=")
  (data (i32.const 96) "  stdin=    env= closed=")
  (data (i32.const 256) "content-type: text/plain\n\n")
  (data (i32.const 65536) "image123")

  (global $i32 (mut i32) (i32.const 1))
  (global $i64 (mut i64) (i64.const 2))
  (global $f32 (mut f32) (f32.const 3))
  (global $f64 (mut f64) (f64.const 4))
  (global $v128 (mut v128) (v128.const i64x2 5 6))
  (global $ref (mut funcref) (ref.null func))
  (table $table 4 funcref)
  (elem (table $table) (i32.const 0) func $leave_marks)

  ;; Where the next byte of the answer goes.
  (global $at (mut i32) (i32.const 1024))

  (func (export "_start") (local $order i32)
    (global.set $at (i32.add (i32.const 1024) (i32.const 26)))
    (memory.copy (i32.const 1024) (i32.const 256) (i32.const 26))
    (call $say_what_is_seen)
    (local.set $order (call $read_order))
    (call $leave_marks)

    (if (i32.eq (local.get $order) (i32.const 0x74)) (then unreachable)) ;; t
    (if (i32.eq (local.get $order) (i32.const 0x73)) (then (call $spin))) ;; s
    (if (i32.eq (local.get $order) (i32.const 0x77)) (then (call $wait))) ;; w
    (if (i32.eq (local.get $order) (i32.const 0x78)) (then (call $proc_exit (i32.const 3)))) ;; x
    (if (i32.eq (local.get $order) (i32.const 0x6d)) (then (call $take_all_memory))) ;; m
    (call $answer)
    (if (i32.eq (local.get $order) (i32.const 0x54)) (then unreachable)) ;; T
    (if (i32.eq (local.get $order) (i32.const 0x53)) (then (call $spin))) ;; S
    (if (i32.eq (local.get $order) (i32.const 0x57)) (then (call $wait)))) ;; W

  (func $say_what_is_seen (local $first i32)
    (call $say (i32.const 0) (i64.extend_i32_u (memory.size)))
    (call $say (i32.const 8) (i64.load (i32.const 65536)))
    (call $say (i32.const 16) (call $any_bits (i32.const 2) (memory.size)))
    (local.set $first (memory.grow (i32.const 1)))
    (call $say (i32.const 24) (call $any_bits (local.get $first) (memory.size)))
    (call $say (i32.const 32) (i64.extend_i32_u (global.get $i32)))
    (call $say (i32.const 40) (global.get $i64))
    (call $say (i32.const 48) (i64.extend_i32_u (i32.reinterpret_f32 (global.get $f32))))
    (call $say (i32.const 56) (i64.reinterpret_f64 (global.get $f64)))
    (call $say (i32.const 64)
      (i64.xor (i64x2.extract_lane 0 (global.get $v128)) (i64x2.extract_lane 1 (global.get $v128))))
    (call $say (i32.const 72) (i64.extend_i32_u (ref.is_null (global.get $ref))))
    (call $say (i32.const 80) (i64.extend_i32_u (call $set_entries)))
    (call $say (i32.const 88) (i64.extend_i32_u (table.size $table))))

  ;; Reads one byte of standard input: the order, or 0. What is behind it stays unread.
  (func $read_order (result i32)
    (i32.store8 (i32.const 600) (i32.const 0))
    (i32.store (i32.const 512) (i32.const 600))
    (i32.store (i32.const 516) (i32.const 1))
    (i32.store (i32.const 520) (i32.const 0))
    (drop (call $fd_read (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 520)))
    (call $say (i32.const 96) (i64.load32_u (i32.const 520)))
    (drop (call $environ_sizes_get (i32.const 512) (i32.const 516)))
    (call $say (i32.const 104) (i64.load32_u (i32.const 512)))
    (call $say (i32.const 112) (i64.extend_i32_u (call $fd_close (i32.const 2))))
    (i32.load8_u (i32.const 600)))

  (func $leave_marks
    (memory.fill (i32.const 65536) (i32.const 0xa5)
      (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 65536)))
    (global.set $i32 (i32.add (global.get $i32) (i32.const 1)))
    (global.set $i64 (i64.add (global.get $i64) (i64.const 1)))
    (global.set $f32 (f32.add (global.get $f32) (f32.const 1)))
    (global.set $f64 (f64.add (global.get $f64) (f64.const 1)))
    (global.set $v128 (i64x2.add (global.get $v128) (v128.const i64x2 1 2)))
    (global.set $ref (ref.func $leave_marks))
    (table.set $table (i32.const 2) (ref.func $leave_marks))
    (drop (table.grow $table (ref.func $leave_marks) (i32.const 3))))

  ;; All words of the pages from the first up to the last, or-ed together.
  (func $any_bits (param $page i32) (param $last i32) (result i64) (local $bits i64)
    (local.set $page (i32.shl (local.get $page) (i32.const 16)))
    (local.set $last (i32.shl (local.get $last) (i32.const 16)))
    (loop $next
      (local.set $bits (i64.or (local.get $bits) (i64.load (local.get $page))))
      (local.set $page (i32.add (local.get $page) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $page) (local.get $last))))
    (local.get $bits))

  (func $set_entries (result i32) (local $entry i32) (local $count i32)
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $table (local.get $entry))))
        (then (local.set $count (i32.add (local.get $count) (i32.const 1)))))
      (local.set $entry (i32.add (local.get $entry) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $entry) (table.size $table))))
    (local.get $count))

  (func $spin (loop $forever (br $forever)))

  ;; For an hour, in the host.
  (func $wait
    (i64.store (i32.const 640) (i64.const 0))
    (i64.store (i32.const 648) (i64.const 0))
    (i64.store (i32.const 656) (i64.const 1))
    (i64.store (i32.const 664) (i64.const 3600000000000))
    (i64.store (i32.const 672) (i64.const 0))
    (i64.store (i32.const 680) (i64.const 0))
    (drop (call $poll_oneoff (i32.const 640) (i32.const 704) (i32.const 1) (i32.const 760))))

  (func $take_all_memory (local $page i32)
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

  (func $answer
    (i32.store (i32.const 512) (i32.const 1024))
    (i32.store (i32.const 516) (i32.sub (global.get $at) (i32.const 1024)))
    (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))))
