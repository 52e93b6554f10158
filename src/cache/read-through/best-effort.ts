// What a pull leaves behind saves the next one from asking. A disk that takes nothing must not stop the pull itself.
import { StorageFailure } from '../../content/store.ts';
import { RecordStoreBusy, RecordStoreFull } from '../../state/store.ts';

/** Waits for what is written. Where there is no room for it, or others lock the records, nothing is remembered; all else that fails is thrown. */
export async function bestEffort(written: Promise<unknown>): Promise<void> {
  try {
    await written;
  } catch (error) {
    if (![StorageFailure, RecordStoreFull, RecordStoreBusy].some(known => error instanceof known)) throw error;
  }
}
