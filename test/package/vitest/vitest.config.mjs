// Without it, Vitest would use the one of the folder above.
export default {};
