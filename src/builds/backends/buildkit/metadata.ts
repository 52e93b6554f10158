// The file in which BuildKit's clients say what they made.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { type Digest, parseDigest } from '../../../oci/digest.ts';
import { BuildFailure } from '../../maker.ts';

const metadataSchema = z.object({ 'containerimage.digest': z.string() });

/** The digest of the manifest or index that was pushed. Throws BuildFailure where the file does not tell it. */
export async function readMetadata(path: string): Promise<Digest> {
  try {
    const metadata = metadataSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    return parseDigest(metadata['containerimage.digest']);
  } catch (cause) {
    const reason = 'the builder ended well, but does not say which digest it pushed';
    throw new BuildFailure({ kind: 'infrastructure', reason }, { cause });
  }
}
