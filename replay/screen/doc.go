// Package screen shows what a terminal would have shown: it takes the bytes that a program wrote to its terminal and
// keeps the picture, as a VT220 with xterm's common extensions and UTF-8 would.
//
// The bytes are hostile. No input makes it panic, loop or grow: every parameter is clamped to the screen, strings and
// scrollback are bounded, queries are never answered. It is built on the parser of charmbracelet/x/ansi, which a
// [Scanner] feeds; start reading there.
//
// Left out on purpose: left and right margins (DECLRMM), reflow of wrapped lines on resize, double-size lines, images, the
// alignment test (DECALN), which would make three bytes cost a screenful of work.
package screen
