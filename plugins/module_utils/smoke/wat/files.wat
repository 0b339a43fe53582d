;; "r PATH": prints "ok " and what is in the file. "w PATH TEXT": makes or empties the file, writes the text, prints "ok ".
;; What is refused prints "errno N". Paths are those of the first folder that was opened for the program, its root.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  ;; 0: argument count, 4: bytes, 8: iovec, 16: bytes read or written, 20: descriptor; 64: "ok "; 80: "errno NNN";
  ;; 1024: pointers to the arguments, 2048: the arguments; 8192: what was read
  (memory (export "memory") 1)
  (data (i32.const 64) "ok ")
  (data (i32.const 80) "errno ")

  (func $print (param $at i32) (param $length i32)
    (i32.store (i32.const 8) (local.get $at))
    (i32.store (i32.const 12) (local.get $length))
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))

  ;; Ends the program with a line that says which error.
  (func $must (param $errno i32)
    (if (i32.eqz (local.get $errno)) (then return))
    (i32.store8 (i32.const 86) (i32.add (i32.const 48) (i32.div_u (local.get $errno) (i32.const 10))))
    (i32.store8 (i32.const 87) (i32.add (i32.const 48) (i32.rem_u (local.get $errno) (i32.const 10))))
    (i32.store8 (i32.const 88) (i32.const 10))
    (call $print (i32.const 80) (i32.const 9))
    unreachable)

  (func $length (param $at i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $at))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $at)))

  (func $open (param $path i32) (param $how i32) (param $rights i64)
    (call $must (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (call $length (local.get $path))
      (local.get $how) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 20))))

  (func (export "_start")
    (local $text i32)
    (call $must (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (call $must (call $args_get (i32.const 1024) (i32.const 2048)))
    (if (i32.eq (i32.load8_u (i32.load (i32.const 1028))) (i32.const 114)) ;; "r"
      (then
        (call $open (i32.load (i32.const 1032)) (i32.const 0) (i64.const 2))
        (i32.store (i32.const 8) (i32.const 8192))
        (i32.store (i32.const 12) (i32.const 4096))
        (call $must (call $fd_read (i32.load (i32.const 20)) (i32.const 8) (i32.const 1) (i32.const 16)))
        (local.set $text (i32.load (i32.const 16)))
        (call $print (i32.const 64) (i32.const 3))
        (call $print (i32.const 8192) (local.get $text)))
      (else
        (local.set $text (i32.load (i32.const 1036)))
        (call $open (i32.load (i32.const 1032)) (i32.const 9) (i64.const 64))
        (i32.store (i32.const 8) (local.get $text))
        (i32.store (i32.const 12) (call $length (local.get $text)))
        (call $must (call $fd_write (i32.load (i32.const 20)) (i32.const 8) (i32.const 1) (i32.const 16)))
        (call $print (i32.const 64) (i32.const 3))))))
