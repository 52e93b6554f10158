// Byte ranges of content. distribution-spec "Pulling blobs"; RFC 9110 section 14.

/** Bytes `start` to `end`, both inclusive, as in Content-Range. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}
