;; The canary that is a core module: a CGI command. `canary.rs` puts state.wat in place of STATE.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (memory (export "memory") PAGES)
  (data (i32.const 256) "content-type: text/plain\n\n")

  (func (export "_start") (local $order i32)
    (memory.copy (i32.const 1024) (i32.const 256) (i32.const 26))
    (global.set $at (i32.const 1050))
    (call $say_what_is_seen)
    (local.set $order (call $read_order))
    (call $leave_marks (local.get $order))
    (call $end_early (local.get $order))
    (call $take_memory (local.get $order))
    (if (i32.eq (local.get $order) (i32.const 0x78)) (then (call $proc_exit (i32.const 3)))) ;; x
    (i32.store (i32.const 512) (i32.const 1024))
    (i32.store (i32.const 516) (i32.sub (global.get $at) (i32.const 1024)))
    (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
    (call $end_late (local.get $order)))

  ;; Reads one byte of standard input: the order, or 0. What is behind it stays unread.
  (func $read_order (result i32)
    (i32.store8 (i32.const 600) (i32.const 0))
    (i32.store (i32.const 512) (i32.const 600))
    (i32.store (i32.const 516) (i32.const 1))
    (i32.store (i32.const 520) (i32.const 0))
    (drop (call $fd_read (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 520)))
    (call $say (i32.const 112) (i64.load32_u (i32.const 520)))
    (drop (call $environ_sizes_get (i32.const 512) (i32.const 516)))
    (call $say (i32.const 120) (i64.load32_u (i32.const 512)))
    ;; Not 0 if it was closed before.
    (call $say (i32.const 128) (i64.extend_i32_u (call $fd_close (i32.const 2))))
    (i32.load8_u (i32.const 600)))

  (func $host_random (result i64)
    (drop (call $random_get (i32.const 640) (i32.const 8)))
    (i64.load (i32.const 640)))

  (func $host_clock (result i64)
    (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 640)))
    (i64.load (i32.const 640)))

  ;; For an hour, in the host.
  (func $host_wait
    (i64.store (i32.const 640) (i64.const 0))
    (i64.store (i32.const 648) (i64.const 0))
    (i64.store (i32.const 656) (i64.const 1))
    (i64.store (i32.const 664) (i64.const 3600000000000))
    (i64.store (i32.const 672) (i64.const 0))
    (i64.store (i32.const 680) (i64.const 0))
    (drop (call $poll_oneoff (i32.const 640) (i32.const 704) (i32.const 1) (i32.const 760))))

STATE)
