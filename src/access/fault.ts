// What keeps access from being set up: a fault of the configuration, or of a file that it names.

/** `faults` are for the operator: each says what is wrong, where, and what would be right, and quotes no secret. */
export class AccessFault extends Error {
  override readonly name = 'AccessFault';
  readonly faults: readonly string[];

  constructor(faults: readonly string[], options: ErrorOptions = {}) {
    super(`access cannot be set up:\n${faults.map(fault => `  ${fault}`).join('\n')}`, options);
    this.faults = faults;
  }
}
