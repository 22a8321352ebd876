//go:build !race

package main

// moreResident is how much memory may remain of a load.
const moreResident = 32 << 20
