// What a pull leaves behind saves the next one from asking. A disk that takes nothing must not stop the pull itself.
import { StorageFailure } from '../content/store.ts';
import { RecordStoreFull } from '../state/store.ts';

/** Waits for what is written. Where there is no room for it, nothing is remembered; all else that fails is thrown. */
export async function remember(written: Promise<unknown>): Promise<void> {
  try {
    await written;
  } catch (error) {
    if (!(error instanceof StorageFailure || error instanceof RecordStoreFull)) throw error;
  }
}
