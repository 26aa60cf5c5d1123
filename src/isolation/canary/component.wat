;; The canary that is a component, run as a CGI command: two core instances with a memory, tables and globals each, and
;; handles of the host that are never dropped. `canary.rs` puts state.wat in place of STATE.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $io-error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "input-stream" (type $in (sub resource)))
    (export "output-stream" (type $out (sub resource)))
    (alias outer 1 $io-error (type $io-error))
    (export "error" (type $error (eq $io-error)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $in)) (param "len" u64) (result (result (list u8) (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "input-stream" (type $in))
  (alias export $streams "output-stream" (type $out))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $in (type $in))
    (export "input-stream" (type $input (eq $in)))
    (export "get-stdin" (func (result (own $input))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $out (type $out))
    (export "output-stream" (type $output (eq $out)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-u64" (func (result u64)))))
  (import "wasi:clocks/wall-clock@0.2.0" (instance $wall
    (type $record (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $record)))
    (export "now" (func (result $datetime)))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $monotonic
    (alias outer 1 $pollable (type $pollable))
    (export "pollable" (type $timer (eq $pollable)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $timer))))))

  ;; The memories of the two, which the host's functions are bound to.
  (core module $memory
    (memory (export "memory") PAGES)
    ;; The host gives one byte at most.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 600)))
  (core instance $memory-1 (instantiate $memory))
  (core instance $memory-2 (instantiate $memory))

  (core module $body
    (import "memory" "memory" (memory PAGES))
    (import "host" "get-stdin" (func $get_stdin (result i32)))
    (import "host" "get-stdout" (func $get_stdout (result i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "random" (func $host_random (result i64)))
    (import "host" "now" (func $now (param i32)))
    (import "host" "timer" (func $timer (param i64) (result i32)))
    (import "host" "block" (func $block (param i32)))
    (data (i32.const 256) "content-type: text/plain\n\n")
    (data (i32.const 288) "\nsecond:")

    ;; Leaves four handles open: both ends, a timer that has passed when the next request comes, and one that has not.
    (func (export "first") (result i32) (local $order i32) (local $in i32)
      (memory.copy (i32.const 1024) (i32.const 256) (i32.const 26))
      (global.set $at (i32.const 1050))
      (call $say_what_is_seen)
      (local.set $in (call $get_stdin))
      (call $say (i32.const 128) (i64.extend_i32_u (local.get $in)))
      (i32.store8 (i32.const 600) (i32.const 0))
      (i32.store (i32.const 520) (i32.const 0))
      (call $read (local.get $in) (i64.const 1) (i32.const 512))
      (call $say (i32.const 112) (i64.load32_u (i32.const 520)))
      (local.set $order (i32.load8_u (i32.const 600)))
      (drop (call $timer (i64.const 1)))
      (drop (call $timer (i64.const 3600000000000)))
      (call $leave_marks (local.get $order))
      (call $end_early (local.get $order))
      (call $answer)
      (local.get $order))

    (func (export "second") (param $order i32)
      (memory.copy (i32.const 1024) (i32.const 288) (i32.const 8))
      (global.set $at (i32.const 1032))
      (call $say_what_is_seen)
      (call $leave_marks (local.get $order))
      ;; Not in the first: there would be nothing left to grow by here.
      (call $take_memory (local.get $order))
      (call $answer)
      (call $end_late (local.get $order)))

    (func $answer
      (call $write (call $get_stdout)
        (i32.const 1024) (i32.sub (global.get $at) (i32.const 1024)) (i32.const 512)))

    (func $host_clock (result i64)
      (call $now (i32.const 640))
      (i64.add
        (i64.mul (i64.load (i32.const 640)) (i64.const 1000000000))
        (i64.load32_u (i32.const 648))))

    ;; For an hour, in the host.
    (func $host_wait (call $block (call $timer (i64.const 3600000000000))))

STATE)

  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $random (canon lower (func $random "get-random-u64")))
  (core func $timer (canon lower (func $monotonic "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $read-1 (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory-1 "memory") (realloc (func $memory-1 "realloc"))))
  (core func $read-2 (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory-2 "memory") (realloc (func $memory-2 "realloc"))))
  (core func $write-1 (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory-1 "memory")))
  (core func $write-2 (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory-2 "memory")))
  (core func $now-1 (canon lower (func $wall "now") (memory $memory-1 "memory")))
  (core func $now-2 (canon lower (func $wall "now") (memory $memory-2 "memory")))

  (core instance $body-1 (instantiate $body
    (with "memory" (instance $memory-1))
    (with "host" (instance
      (export "get-stdin" (func $get-stdin)) (export "get-stdout" (func $get-stdout))
      (export "read" (func $read-1)) (export "write" (func $write-1)) (export "now" (func $now-1))
      (export "random" (func $random)) (export "timer" (func $timer)) (export "block" (func $block))))))
  (core instance $body-2 (instantiate $body
    (with "memory" (instance $memory-2))
    (with "host" (instance
      (export "get-stdin" (func $get-stdin)) (export "get-stdout" (func $get-stdout))
      (export "read" (func $read-2)) (export "write" (func $write-2)) (export "now" (func $now-2))
      (export "random" (func $random)) (export "timer" (func $timer)) (export "block" (func $block))))))

  (core module $run
    (import "1" "first" (func $first (result i32)))
    (import "2" "second" (func $second (param i32)))
    (func (export "run") (result i32)
      (call $second (call $first))
      (i32.const 0)))
  (core instance $run (instantiate $run (with "1" (instance $body-1)) (with "2" (instance $body-2))))
  (func $run (result (result)) (canon lift (core func $run "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
