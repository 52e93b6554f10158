// Records: small values by collection and key, with an expiry. The interface that test/contract/record-store.ts checks.

export interface RecordStore {
  /** The value; undefined when there is none or it has expired. */
  get(collection: string, key: string): Promise<Uint8Array | undefined>;
  /** Durable when it resolves. Without `expiresAt` the record stays until it is deleted. */
  put(collection: string, key: string, value: Uint8Array, options?: PutOptions): Promise<void>;
  /** Whether there was such a record. */
  delete(collection: string, key: string): Promise<boolean>;
  /** Keys in ascending order, those after `after` only, at most `limit` of them. */
  list(collection: string, options: { readonly after?: string; readonly limit: number }): Promise<readonly string[]>;
  /** Removes what has expired; how many records that were. */
  sweep(): Promise<number>;
  close(): Promise<void>;
}

export interface PutOptions {
  readonly expiresAt?: Date;
}
