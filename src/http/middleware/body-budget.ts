// What the bodies of requests that are read whole take of the memory together, from when they begin to come to when they are answered.
import { type ByteBudget, createByteBudget, type Room } from '../../augment/budget.ts';
import { RegistryError } from '../../oci/errors.ts';

/** So many of the largest may be here at once, but for what is kept free. */
const MAX_LARGEST = 4;
/** Of a budget, one body may have all but what is kept free in it. */
const ROOM_FOR_LARGEST = 4 / 3;

/** At most `spareBytes`, but room for one of the largest. */
export function createBodyBudget(largestBytes: number, spareBytes: number): ByteBudget {
  const most = Math.min(largestBytes * MAX_LARGEST, spareBytes);
  return createByteBudget('the requests', Math.max(most, largestBytes * ROOM_FOR_LARGEST));
}

/** Why there is no room for so many more bytes. Who is refused leaves his room to others at once. */
export function takeRoom(room: Room, bytes: number): RegistryError | undefined {
  try {
    room.take(bytes);
    return undefined;
  } catch (error) {
    room.close();
    if (error instanceof RegistryError) return error;
    throw error;
  }
}
