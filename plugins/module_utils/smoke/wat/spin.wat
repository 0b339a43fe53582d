;; Prints "ready", then computes until so many milliseconds of time have passed, the first argument; without one, for ever.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  ;; 0: argument count, 4: bytes, 8: iovec, 16: written, 24: clock; 64: the text; 1024: pointers, 2048: arguments
  (memory (export "memory") 1)
  (data (i32.const 8) "\40\00\00\00\06\00\00\00")
  (data (i32.const 64) "ready\0a")

  (func $must (param $errno i32)
    (if (local.get $errno) (then unreachable)))

  (func $now (result i64)
    (call $must (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 24)))
    (i64.load (i32.const 24)))

  (func $parse (param $at i32) (result i64)
    (local $value i64)
    (loop $next
      (local.set $value (i64.add (i64.mul (local.get $value) (i64.const 10))
        (i64.extend_i32_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.load8_u (local.get $at))))
    (local.get $value))

  (func (export "_start")
    (local $until i64) (local $rounds i32)
    (call $must (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (call $must (call $args_get (i32.const 1024) (i32.const 2048)))
    (local.set $until (i64.const 0x7fffffffffffffff))
    (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1))
      (then (local.set $until (i64.add (call $now)
        (i64.mul (call $parse (i32.load (i32.const 1028))) (i64.const 1000000))))))
    (call $must (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
    (loop $again
      (local.set $rounds (i32.const 1000))
      (loop $round
        (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
        (br_if $round (local.get $rounds)))
      (br_if $again (i64.lt_u (call $now) (local.get $until))))))
