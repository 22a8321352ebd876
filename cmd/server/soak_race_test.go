//go:build race

package main

// moreResident is how much memory may remain of a load. What the race detector notes of each word that was ever touched is
// never given back.
const moreResident = 64 << 20
