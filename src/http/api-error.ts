// Errors of the augment API: they become `{"message": …}` with their status.

/** `message` is shown to people as it is: it names field and rule, and must hold no secret. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;

  constructor(status: number, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.status = status;
  }
}
