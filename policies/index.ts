/**
 * Every decision of the algorithm (paper 002), as pure functions over the policy document: step 1 `direction.ts`, step 2
 * `technique.ts`, step 3 `strategy.ts` and `admission.ts`, step 4 `reservation.ts`; the document is `document.ts`. Each
 * decision carries its reasons.
 */
export { type Admission, type AdmissionItem, admit } from './admission.ts';
export type { Decided } from './decided.ts';
export { classifyDirection } from './direction.ts';
export {
  applyPolicyPatch,
  type CompiledPolicy,
  compilePolicy,
  flattenPolicy,
  parsePolicy,
  type ReservationName,
  strategyEntry,
  tableEntry,
  unflattenPolicy,
} from './document.ts';
export { compileExpression, type Expression, VARIABLES, type Variables } from './expressions.ts';
export {
  estimateDemand,
  type LinkLoad,
  type LinkReservation,
  type Reservation,
  reserve,
  type SliceClaim,
  type SliceDecision,
} from './reservation.ts';
export { chooseStrategy, contentionOf } from './strategy.ts';
export { chooseTechnique, type GuestModel, type Prediction, predictCopy, type TechniqueQuestion } from './technique.ts';
