;; A CGI command that uses a segment and drops it: when it is used again it traps. The tests put in place of SEGMENT,
;; USE and DROP what makes it a segment of data or of elements.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "content-type: text/plain\n\nthe segment is there\n")
  (data (i32.const 8) "\10\00\00\00\2f\00\00\00")
  (table $table 1 funcref)
  SEGMENT
  (func $start (export "_start")
    (USE (i32.const 0) (i32.const 0) (i32.const 1))
    DROP
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 8)))))
