/** What the user can mend: shown as one line, without a stack trace. */
export class UserError extends Error {}
