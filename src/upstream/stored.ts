// What a registry says that it has stored.
import type { Dispatcher } from 'undici';
import { type Digest, digestAlgorithm, isDigest } from '../oci/digest.ts';
import { type Attempt, badAnswer } from './failure.ts';

/** Throws 502 where the answer to a push names other bytes. A digest of another algorithm may be of the same ones. */
export function requireStored({ headers }: Dispatcher.ResponseData, digest: Digest, attempt: Attempt): void {
  const named = headers['docker-content-digest'];
  if (typeof named !== 'string' || !isDigest(named) || digestAlgorithm(named) !== digestAlgorithm(digest)) return;
  if (named !== digest) throw badAnswer(attempt, `it has stored ${named} instead of ${digest}`);
}
